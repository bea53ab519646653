// Package kubetest decodes deploy/kubernetes.yaml as the API server would, judges its pod by the
// restricted Pod Security standard, and runs the real server with the settings that it gives.
//
// A module of its own, so that the server needs none of Kubernetes' modules.
package kubetest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/yaml"
	psaapi "k8s.io/pod-security-admission/api"
	psapolicy "k8s.io/pod-security-admission/policy"
)

// manifest holds what kubernetes.yaml must have, one of each.
type manifest struct {
	namespace  *corev1.Namespace
	config     *corev1.ConfigMap
	deployment *appsv1.Deployment
	service    *corev1.Service
	budget     *policyv1.PodDisruptionBudget
	autoscaler *autoscalingv2.HorizontalPodAutoscaler
	network    *networkingv1.NetworkPolicy
}

func (m *manifest) pod() *corev1.PodSpec         { return &m.deployment.Spec.Template.Spec }
func (m *manifest) container() *corev1.Container { return &m.pod().Containers[0] }

// decode reads the manifest strictly: an unknown or doubled field is an error, as with
// `kubectl apply --validate=strict`.
func decode(t *testing.T) *manifest {
	t.Helper()
	file, err := os.ReadFile("../kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	add := runtime.NewSchemeBuilder(corev1.AddToScheme, appsv1.AddToScheme, policyv1.AddToScheme,
		autoscalingv2.AddToScheme, networkingv1.AddToScheme)
	if err := add.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()

	m := new(manifest)
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(file)))
	defer documents.Close()
	buffer := make([]byte, len(file))
	for {
		n, err := documents.Read(buffer)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		object, kind, err := decoder.Decode(buffer[:n], nil, nil)
		if err != nil {
			t.Fatalf("kubernetes.yaml: %v in\n%s", err, buffer[:n])
		}
		m.keep(t, object)
		if name := object.(metav1.Object).GetName(); name != "itwin-token-server" {
			t.Errorf("%s is called %q, want itwin-token-server", kind.Kind, name)
		}
	}
	if m.namespace == nil || m.config == nil || m.deployment == nil || m.service == nil ||
		m.budget == nil || m.autoscaler == nil || m.network == nil {
		t.Fatalf("kubernetes.yaml lacks an object: %+v", m)
	}
	if n := len(m.pod().Containers); n != 1 {
		t.Fatalf("the pod has %d containers, want 1", n)
	}
	return m
}

func (m *manifest) keep(t *testing.T, object runtime.Object) {
	t.Helper()
	switch o := object.(type) {
	case *corev1.Namespace:
		m.namespace = o
	case *corev1.ConfigMap:
		m.config = o
	case *appsv1.Deployment:
		m.deployment = o
	case *corev1.Service:
		m.service = o
	case *policyv1.PodDisruptionBudget:
		m.budget = o
	case *autoscalingv2.HorizontalPodAutoscaler:
		m.autoscaler = o
	case *networkingv1.NetworkPolicy:
		m.network = o
	default:
		t.Errorf("kubernetes.yaml holds a %T, which no test knows", o)
	}
}

func TestPodIsRestricted(t *testing.T) {
	m := decode(t)
	if got := m.namespace.Labels[psaapi.EnforceLevelLabel]; got != string(psaapi.LevelRestricted) {
		t.Errorf("namespace enforces %q, want restricted", got)
	}
	evaluator, err := psapolicy.NewEvaluator(psapolicy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := psaapi.LevelVersion{Level: psaapi.LevelRestricted, Version: psaapi.LatestVersion()}
	template := m.deployment.Spec.Template
	for _, result := range evaluator.EvaluatePod(restricted, &template.ObjectMeta, &template.Spec) {
		if !result.Allowed {
			t.Errorf("%s: %s", result.ForbiddenReason, result.ForbiddenDetail)
		}
	}
	security := m.container().SecurityContext
	if security.ReadOnlyRootFilesystem == nil || !*security.ReadOnlyRootFilesystem {
		t.Error("the root file system can be written")
	}
	if token := m.pod().AutomountServiceAccountToken; token == nil || *token {
		t.Error("the pod gets a token for the cluster")
	}
}

func TestObjectsPointAtEachOther(t *testing.T) {
	m := decode(t)
	for _, o := range []metav1.Object{m.config, m.deployment, m.service, m.budget, m.autoscaler, m.network} {
		if o.GetNamespace() != m.namespace.Name {
			t.Errorf("%T is in namespace %q, want %q", o, o.GetNamespace(), m.namespace.Name)
		}
	}
	spec := m.deployment.Spec
	selectors := map[string]*metav1.LabelSelector{
		"Deployment":          spec.Selector,
		"Service":             {MatchLabels: m.service.Spec.Selector},
		"PodDisruptionBudget": m.budget.Spec.Selector,
		"NetworkPolicy":       &m.network.Spec.PodSelector,
	}
	for _, spread := range spec.Template.Spec.TopologySpreadConstraints {
		selectors["spread over "+spread.TopologyKey] = spread.LabelSelector
	}
	for name, s := range selectors {
		selector, err := metav1.LabelSelectorAsSelector(s)
		if err != nil || selector.Empty() || !selector.Matches(labels.Set(spec.Template.Labels)) {
			t.Errorf("%s selects %v (%v), which are not the pods' labels %v", name, s, err, spec.Template.Labels)
		}
	}
	target := m.autoscaler.Spec.ScaleTargetRef
	if target.APIVersion != m.deployment.APIVersion || target.Kind != m.deployment.Kind || target.Name != m.deployment.Name {
		t.Errorf("the autoscaler scales %v, want the deployment", target)
	}
	if got := m.container().EnvFrom[0].ConfigMapRef.Name; got != m.config.Name {
		t.Errorf("settings come from the ConfigMap %q, want %q", got, m.config.Name)
	}
}

func TestNoneIsMissing(t *testing.T) {
	m := decode(t)
	rolling := m.deployment.Spec.Strategy.RollingUpdate
	if *m.deployment.Spec.Replicas != 3 || *m.autoscaler.Spec.MinReplicas != 3 {
		t.Error("fewer than 3 replicas")
	}
	if *rolling.MaxUnavailable != intstr.FromInt32(0) || rolling.MaxSurge.IntValue() < 1 {
		t.Errorf("a rolling update takes %v away and adds %v, want none away", rolling.MaxUnavailable, rolling.MaxSurge)
	}
	if *m.budget.Spec.MaxUnavailable != intstr.FromInt32(1) {
		t.Errorf("a drain may take %v at once, want 1", m.budget.Spec.MaxUnavailable)
	}
	node := m.pod().TopologySpreadConstraints[0]
	if node.TopologyKey != corev1.LabelHostname || node.WhenUnsatisfiable != corev1.DoNotSchedule || node.MaxSkew != 1 {
		t.Errorf("the pods are not held apart on nodes: %+v", node)
	}
	// The server's own promise: it exits within 10 s of SIGTERM.
	const serverStops = 10 * time.Second
	preStop := time.Duration(m.container().Lifecycle.PreStop.Sleep.Seconds) * time.Second
	grace := time.Duration(*m.pod().TerminationGracePeriodSeconds) * time.Second
	if preStop < time.Second || grace < preStop+serverStops+time.Second {
		t.Errorf("grace of %v holds no preStop of %v and %v to stop", grace, preStop, serverStops)
	}
}

func TestNetworkIsClosed(t *testing.T) {
	m := decode(t)
	if len(m.network.Spec.PolicyTypes) != 2 {
		t.Errorf("the policy rules %v, want Ingress and Egress", m.network.Spec.PolicyTypes)
	}
	var out []string
	for _, rule := range m.network.Spec.Egress {
		for _, port := range rule.Ports {
			out = append(out, string(*port.Protocol)+" "+port.Port.String())
		}
	}
	if want := "UDP 53, TCP 53, TCP 443"; join(out) != want {
		t.Errorf("the pod may go out to %s, want %s", join(out), want)
	}
	for _, rule := range m.network.Spec.Ingress {
		if rule.Ports[0].Port.String() == "metrics" && len(rule.From) == 0 {
			t.Error("everyone may read the metrics")
		}
	}
}
