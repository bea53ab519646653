package tests

import (
	"bytes"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const secretFile = "ITM_TOKEN_SERVER_CLIENT_SECRET_FILE"

// TestKubernetesServer runs the server with the container's settings, except for the path of the
// secret, hosts that do not resolve, and free ports.
func TestKubernetesServer(t *testing.T) {
	m := decode(t)
	free := freeAddresses(t, 2)
	p := &process{program: build(t), dir: t.TempDir(), args: m.container.Args, address: free[0]}
	p.env = m.env
	p.env[secretFile] = write(t, t.TempDir(), "client-secret", []byte("secret"))
	p.env["ITM_TOKEN_SERVER_AUTH0_DOMAIN"] = "tenant.invalid"
	p.env["ITM_TOKEN_SERVER_AUTHORITY"] = "https://ims.invalid"

	ports := map[string]string{}
	for _, port := range m.container.Ports {
		ports[port.Name] = strconv.Itoa(int(port.ContainerPort))
	}
	// Nothing in the manifest sets the port, so check reports the default.
	report, _ := p.command("check").CombinedOutput()
	if !regexp.MustCompile(`ITM_TOKEN_SERVER_PORT\s.*\b` + ports["http"] + `\b`).Match(report) {
		t.Errorf("the container's http port is %s, check says:\n%s", ports["http"], report)
	}
	want(t, "the metrics address", p.env["ITM_TOKEN_SERVER_METRICS_ADDR"], ":"+ports["metrics"])
	want(t, "the port for Prometheus", m.template.Annotations["prometheus.io/port"], ports["metrics"])

	var log bytes.Buffer
	p.output = &log
	_, p.env["ITM_TOKEN_SERVER_PORT"], _ = net.SplitHostPort(p.address)
	p.env["ITM_TOKEN_SERVER_METRICS_ADDR"] = free[1]
	p.start(t)
	for status, probe := range map[int]*corev1.Probe{
		http.StatusOK:                 m.container.LivenessProbe,
		http.StatusServiceUnavailable: m.container.ReadinessProbe, // Auth0 and IMS cannot be reached
	} {
		want(t, "a probe's port", probe.HTTPGet.Port.String(), "http")
		waitForStatus(t, http.DefaultClient, "http://"+p.address+probe.HTTPGet.Path, status)
	}
	waitForStatus(t, http.DefaultClient, "http://"+free[1]+"/metrics", http.StatusOK)
	p.terminate(t)
	// The server warns about an ITM_TOKEN_SERVER_ name that it does not know.
	warning := regexp.MustCompile(`(?i).*(unknown|did you mean|not a setting).*`)
	if line := warning.FindString(log.String()); line != "" {
		t.Errorf("the manifest has a setting that the server does not know: %s", line)
	}
}
