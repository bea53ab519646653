import { ColorDef } from "@itwin/core-common";
import { type DecorateContext, type Decorator, GraphicBranch, GraphicType } from "@itwin/core-frontend";
import { Box, Range3d, Transform } from "@itwin/core-geometry";

const COLORS = ["#4c9fd8", "#7fd1c7", "#ffc06a", "#f2785c"].map((color) => ColorDef.create(color));
const GROUND = ColorDef.create("#d9dde0");

/** A few blocks, in metres, to show where there is no iModel. */
export class Scene implements Decorator {
  readonly useCachedDecorations = true;

  decorate(context: DecorateContext) {
    if (!context.viewport.iModel.isBlankConnection()) return;
    const blocks = context.createGraphic({ type: GraphicType.Scene, wantNormals: true });
    const add = (color: ColorDef, block: Range3d) => {
      blocks.setSymbology(color, color, 1);
      blocks.addSolidPrimitive(Box.createRange(block, true)!);
    };
    add(GROUND, new Range3d(-40, -40, -1, 40, 40, 0));
    for (let i = 0; i < 25; i++) {
      const [east, north, height] = [(i % 5) * 10 - 23, Math.floor(i / 5) * 10 - 23, 3 + ((i * i * 5) % 11) * 1.5];
      add(COLORS[(i * 3) % COLORS.length]!, new Range3d(east, north, 0, east + 7, north + 7, height));
    }
    const lit = new GraphicBranch(true);
    lit.setViewFlagOverrides({ lighting: true });
    lit.add(blocks.finish());
    context.addDecoration(GraphicType.Scene, context.createBranch(lit, Transform.createIdentity()));
  }
}
