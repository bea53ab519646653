.DEFAULT_GOAL := help
.PHONY: help test race lint fuzz fuzz-long faults soak bench bench-build profile interop viewer-test release image replicas deploy-test

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

test: ## the README's test command
	go test ./...

race: ## the same, with the race detector
	go test -race ./...

lint: ## gofmt, vet, staticcheck, the other platforms
	bash .ci/run lint

fuzz: ## each fuzz target with 20,000 inputs
	bash .ci/run fuzz

fuzz-long: ## each fuzz target for 10 min
	FUZZTIME=10m bash .ci/run fuzz

faults: ## outages and attacks, on the built program
	bash .ci/run faults

soak: ## ten minutes of mixed load, with faults that start and end
	go test -tags soak -count=1 -timeout 20m -run Soak -v ./internal/faults

bench: bench-build ## CPU time, memory and start-up, compared with other servers, into bench/README.md
	cd bench && go run . -readme README.md

stripped = -trimpath -ldflags='-s -w'

bench-build:
	@command -v haproxy || { echo "haproxy is not installed (Debian's package haproxy)"; exit 1; }
	CGO_ENABLED=0 go build $(stripped) -o bench/.bin/server .
	CGO_ENABLED=0 go -C bench build $(stripped) -o .bin/baseline ./baseline
	CGO_ENABLED=0 GOBIN=$(CURDIR)/bench/.bin go install $(stripped) github.com/oauth2-proxy/oauth2-proxy/v7@v7.15.4

profile: ## a CPU profile of the handler under both workloads, for go tool pprof
	go test -run '^$$' -bench Handler -benchtime 10s -cpuprofile bench/cpu.pprof -o /dev/null .
	go tool pprof -top bench/cpu.pprof 2>/dev/null | head -25

interop: ## the built server with oidc-provider as both Auth0 and IMS, and in Chromium
	bash interop/test.sh

viewer-test: ## the iTwin Viewer with the token server, in Chromium
	bash examples/viewer/test.sh

release: ## binaries for all platforms, checksums and an SBOM, into dist/
	bash deploy/release.sh

image: ## the container image, with Docker, Podman or Buildah
	bash deploy/image.sh

replicas: ## three replicas behind nginx, during crashes, restarts, an outage and a key rotation
	bash deploy/test.sh replicas

deploy-test: ## tests every file of deploy/
	bash deploy/test.sh
