package kubetest

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func join(s []string) string { return strings.Join(s, ", ") }

// environment is what the container would get: the ConfigMap, then the container's own.
func (m *manifest) environment() map[string]string {
	env := map[string]string{}
	for name, value := range m.config.Data {
		env[name] = value
	}
	for _, e := range m.container().Env {
		env[e.Name] = e.Value
	}
	return env
}

func (m *manifest) port(t *testing.T, name string) int {
	t.Helper()
	for _, p := range m.container().Ports {
		if p.Name == name {
			return int(p.ContainerPort)
		}
	}
	t.Fatalf("the container has no port %q", name)
	return 0
}

func TestSecretArrivesAsAFile(t *testing.T) {
	m := decode(t)
	file := m.environment()["ITM_TOKEN_SERVER_CLIENT_SECRET_FILE"]
	mount, volume := m.container().VolumeMounts[0], m.pod().Volumes[0]
	if path.Dir(file) != mount.MountPath || mount.Name != volume.Name {
		t.Errorf("the secret's file %s is not in the volume mounted at %s", file, mount.MountPath)
	}
	if mount.SubPath != "" || !mount.ReadOnly {
		t.Errorf("mount %+v: want the whole folder (or rotation never arrives), read only", mount)
	}
	if volume.Secret == nil || volume.Secret.SecretName != "itwin-token-server" || len(volume.Secret.Items) != 0 {
		t.Errorf("volume %+v, want the whole secret itwin-token-server", volume)
	}
	// The command in the manifest's head makes the key that the file is named for.
	head, err := os.ReadFile("../kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(head), "generic itwin-token-server --from-file="+path.Base(file)) {
		t.Errorf("the manifest's head does not make a secret with the key %s", path.Base(file))
	}
	// 0440 of root and of the pod's group: readable for the server, and for nobody else.
	if *volume.Secret.DefaultMode != 0o440 || *m.pod().SecurityContext.FSGroup != *m.pod().SecurityContext.RunAsGroup {
		t.Errorf("mode %o, group %d: the server could not read its secret", *volume.Secret.DefaultMode, *m.pod().SecurityContext.FSGroup)
	}
}

func TestMemoryLimitIsTheCollectorsToo(t *testing.T) {
	m := decode(t)
	limit := m.container().Resources.Limits.Memory().Value()
	// Go's unit MiB is Kubernetes' Mi.
	soft, err := resource.ParseQuantity(strings.TrimSuffix(m.environment()["GOMEMLIMIT"], "B"))
	if err != nil {
		t.Fatalf("GOMEMLIMIT: %v", err)
	}
	if got := float64(soft.Value()) / float64(limit); got < 0.85 || got > 0.95 {
		t.Errorf("GOMEMLIMIT is %.2f of the memory limit, want about 0.9", got)
	}
}

// TestServerAgrees runs the real server with exactly the container's settings, but for the secret's
// path, a tenant that resolves nowhere and free ports in place of those that may be taken here.
func TestServerAgrees(t *testing.T) {
	m := decode(t)
	server := build(t)

	secret := filepath.Join(t.TempDir(), "client-secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := m.environment()
	env["ITM_TOKEN_SERVER_CLIENT_SECRET_FILE"] = secret
	env["ITM_TOKEN_SERVER_AUTH0_DOMAIN"] = "tenant.invalid"
	env["ITM_TOKEN_SERVER_AUTHORITY"] = "https://ims.invalid"

	// Nothing in the manifest sets the port: the doctor tells the default.
	report, _ := command(t, server, env, "check").CombinedOutput()
	if want := regexp.MustCompile(`ITM_TOKEN_SERVER_PORT\s.*\b` + strconv.Itoa(m.port(t, "http")) + `\b`); !want.Match(report) {
		t.Errorf("the container's http port is %d, the server says:\n%s", m.port(t, "http"), report)
	}
	if got, want := env["ITM_TOKEN_SERVER_METRICS_ADDR"], ":"+strconv.Itoa(m.port(t, "metrics")); got != want {
		t.Errorf("the metrics listen at %s, the container's port is %s", got, want)
	}
	if got, want := m.deployment.Spec.Template.Annotations["prometheus.io/port"], strconv.Itoa(m.port(t, "metrics")); got != want {
		t.Errorf("Prometheus is sent to port %s, want %s", got, want)
	}

	env["ITM_TOKEN_SERVER_PORT"] = "0"
	metrics := freeAddress(t)
	env["ITM_TOKEN_SERVER_METRICS_ADDR"] = metrics
	address, log := start(t, command(t, server, env, m.container().Args...))
	probes := m.container()
	for name, c := range map[string]struct {
		url    string
		status int
	}{
		"liveness":  {"http://" + address + probes.LivenessProbe.HTTPGet.Path, http.StatusOK},
		"readiness": {"http://" + address + probes.ReadinessProbe.HTTPGet.Path, http.StatusServiceUnavailable},
		"metrics":   {"http://" + metrics + "/metrics", http.StatusOK},
	} {
		if got := status(t, c.url); got != c.status {
			t.Errorf("%s probe answers %d, want %d while Auth0 cannot be reached", name, got, c.status)
		}
	}
	for _, probe := range []*corev1.Probe{probes.LivenessProbe, probes.ReadinessProbe} {
		if probe.HTTPGet.Port.String() != "http" {
			t.Errorf("a probe asks port %v, want http", &probe.HTTPGet.Port)
		}
	}
	// The server warns of every ITM_TOKEN_SERVER_ name that it doesn't know, with the one meant.
	if line := regexp.MustCompile(`(?i).*(unknown|did you mean|not a setting).*`).FindString(log()); line != "" {
		t.Errorf("the manifest has a setting that the server does not know: %s", line)
	}
}

func build(t *testing.T) string {
	t.Helper()
	server := filepath.Join(t.TempDir(), "itwin-token-server")
	if out, err := exec.Command("go", "build", "-C", "../..", "-o", server, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return server
}

// command runs in an empty folder, so that no .env of a developer's plays in.
func command(t *testing.T, server string, env map[string]string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, server, args...)
	cmd.Dir = t.TempDir()
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// start runs a server until the test ends, and returns the address it says it listens on (the
// loopback one where it listens on every interface), and what it has logged up to then.
func start(t *testing.T, cmd *exec.Cmd) (address string, log func() string) {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	listening := regexp.MustCompile(`listening.*"addr":"([^"]+)"`)
	scanner := bufio.NewScanner(stderr)
	for address == "" && scanner.Scan() {
		lines.WriteString(scanner.Text() + "\n")
		if found := listening.FindStringSubmatch(scanner.Text()); found != nil {
			_, port, err := net.SplitHostPort(found[1])
			if err != nil {
				t.Fatal(err)
			}
			address = net.JoinHostPort("127.0.0.1", port)
		}
	}
	rest := make(chan string, 1)
	go func() { more, _ := io.ReadAll(stderr); rest <- string(more) }()
	stop := func() string {
		cmd.Process.Signal(syscall.SIGTERM)
		lines.WriteString(<-rest)
		return lines.String()
	}
	if address == "" {
		t.Fatalf("the server does not say where it listens:\n%s", stop())
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return address, stop
}

// status waits for a listener that is not there yet: the metrics' opens after the server's.
func status(t *testing.T, url string) int {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			return resp.StatusCode
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// freeAddress may be taken by another between here and its use; the ports for that are many.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
