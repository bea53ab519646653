package tests

import (
	"bytes"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestKubernetesServer runs the server with the container's settings, except for the path of the secret,
// hosts that do not resolve, and free ports.
func TestKubernetesServer(t *testing.T) {
	m := decode(t)
	p := &process{program: build(t), dir: t.TempDir(), args: m.container.Args, address: freeAddresses(t, 1)[0]}
	env := m.environment()
	env[secretFile] = write(t, t.TempDir(), "client-secret", []byte("secret"))
	env["ITM_TOKEN_SERVER_AUTH0_DOMAIN"] = "tenant.invalid"
	env["ITM_TOKEN_SERVER_AUTHORITY"] = "https://ims.invalid"
	p.setEnv(env)

	ports := map[string]string{}
	for _, port := range m.container.Ports {
		ports[port.Name] = strconv.Itoa(int(port.ContainerPort))
	}
	// Nothing in the manifest sets the port, so check reports the default.
	check := exec.Command(p.program, "check")
	check.Dir, check.Env = p.dir, p.env
	report, _ := check.CombinedOutput()
	if !regexp.MustCompile(`ITM_TOKEN_SERVER_PORT\s.*\b` + ports["http"] + `\b`).Match(report) {
		t.Errorf("the container's http port is %s, check says:\n%s", ports["http"], report)
	}
	want(t, "the metrics address", env["ITM_TOKEN_SERVER_METRICS_ADDR"], ":"+ports["metrics"])
	want(t, "the port for Prometheus", m.deployment.Spec.Template.Annotations["prometheus.io/port"], ports["metrics"])

	var log bytes.Buffer
	p.output = &log
	metrics := freeAddresses(t, 1)[0]
	_, env["ITM_TOKEN_SERVER_PORT"], _ = net.SplitHostPort(p.address)
	env["ITM_TOKEN_SERVER_METRICS_ADDR"] = metrics
	p.setEnv(env)
	p.start(t)
	t.Cleanup(p.kill)
	p.waitFor(t, m.container.LivenessProbe.HTTPGet.Path, http.StatusOK)
	// Auth0 and IMS cannot be reached.
	p.waitFor(t, m.container.ReadinessProbe.HTTPGet.Path, http.StatusServiceUnavailable)
	waitFor(t, 5*time.Second, "metrics", func() bool {
		status, _ := get(http.DefaultClient, "http://"+metrics+"/metrics")
		return status == http.StatusOK
	})
	for _, probe := range []*corev1.Probe{m.container.LivenessProbe, m.container.ReadinessProbe} {
		want(t, "a probe's port", probe.HTTPGet.Port.String(), "http")
	}
	p.terminate(t)
	// The server warns about an ITM_TOKEN_SERVER_ name that it does not know.
	if line := regexp.MustCompile(`(?i).*(unknown|did you mean|not a setting).*`).FindString(log.String()); line != "" {
		t.Errorf("the manifest has a setting that the server does not know: %s", line)
	}
}

func (p *process) setEnv(env map[string]string) {
	p.env = nil
	for name, value := range env {
		p.env = append(p.env, name+"="+value)
	}
}
