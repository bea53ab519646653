package tests

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	psaapi "k8s.io/pod-security-admission/api"
	psapolicy "k8s.io/pod-security-admission/policy"
)

const name = "itwin-token-server" // of each object

// manifest holds the objects of kubernetes.yaml, in its order.
type manifest struct {
	namespace  corev1.Namespace
	config     corev1.ConfigMap
	deployment appsv1.Deployment
	service    corev1.Service
	budget     policyv1.PodDisruptionBudget
	autoscaler autoscalingv2.HorizontalPodAutoscaler
	network    networkingv1.NetworkPolicy
	template   *corev1.PodTemplateSpec
	container  *corev1.Container
	env        map[string]string // what the container gets: the ConfigMap, then its own variables
}

// decode reads the manifest strictly: an unknown or repeated field is an error, as with
// `kubectl apply --validate=strict`.
func decode(t *testing.T) *manifest {
	t.Helper()
	text, err := os.ReadFile("../kubernetes.yaml")
	check(t, err)
	scheme := runtime.NewScheme()
	add := runtime.NewSchemeBuilder(corev1.AddToScheme, appsv1.AddToScheme, policyv1.AddToScheme,
		autoscalingv2.AddToScheme, networkingv1.AddToScheme)
	check(t, add.AddToScheme(scheme))
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	m := &manifest{}
	objects := []runtime.Object{&m.namespace, &m.config, &m.deployment, &m.service, &m.budget,
		&m.autoscaler, &m.network}
	documents := bytes.Split(text, []byte("\n---\n"))
	want(t, "the number of objects", len(documents), len(objects))
	for i, object := range objects {
		got, _, err := decoder.Decode(documents[i], nil, object)
		if err != nil || got != object {
			t.Fatalf("kubernetes.yaml: got a %T (%v), want a %T:\n%s", got, err, object, documents[i])
		}
		meta := object.(metav1.Object)
		want(t, fmt.Sprintf("the name of the %T", object), meta.GetName(), name)
		if object != &m.namespace {
			want(t, fmt.Sprintf("the namespace of the %T", object), meta.GetNamespace(), name)
		}
	}
	m.template = &m.deployment.Spec.Template
	want(t, "the number of containers", len(m.template.Spec.Containers), 1)
	m.container = &m.template.Spec.Containers[0]
	m.env = maps.Clone(m.config.Data)
	for _, e := range m.container.Env {
		m.env[e.Name] = e.Value
	}
	return m
}

func TestKubernetesPodIsRestricted(t *testing.T) {
	m := decode(t)
	enforced := m.namespace.Labels[psaapi.EnforceLevelLabel]
	want(t, "the namespace enforces", enforced, psaapi.LevelRestricted)
	evaluator, err := psapolicy.NewEvaluator(psapolicy.DefaultChecks(), nil)
	check(t, err)
	latest := psaapi.LatestVersion()
	restricted := psaapi.LevelVersion{Level: psaapi.LevelRestricted, Version: latest}
	pod := m.template
	for _, result := range evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec) {
		if !result.Allowed {
			t.Errorf("%s: %s", result.ForbiddenReason, result.ForbiddenDetail)
		}
	}
}

func TestKubernetesSelectorsMatchThePods(t *testing.T) {
	m := decode(t)
	selectors := map[string]*metav1.LabelSelector{
		"Deployment":          m.deployment.Spec.Selector,
		"Service":             {MatchLabels: m.service.Spec.Selector},
		"PodDisruptionBudget": m.budget.Spec.Selector,
		"NetworkPolicy":       &m.network.Spec.PodSelector,
	}
	for _, spread := range m.template.Spec.TopologySpreadConstraints {
		selectors["spread over "+spread.TopologyKey] = spread.LabelSelector
	}
	for name, s := range selectors {
		selector, err := metav1.LabelSelectorAsSelector(s)
		if err != nil || selector.Empty() || !selector.Matches(labels.Set(m.template.Labels)) {
			t.Errorf("%s selects %v (%v), want the pods' labels %v", name, s, err, m.template.Labels)
		}
	}
}

func TestKubernetesFields(t *testing.T) {
	m := decode(t)
	pod, rolling := m.template.Spec, m.deployment.Spec.Strategy.RollingUpdate
	mount, secret, file := m.container.VolumeMounts[0], pod.Volumes[0].Secret, m.env[secretFile]
	target := autoscalingv2.CrossVersionObjectReference{
		APIVersion: m.deployment.APIVersion, Kind: m.deployment.Kind, Name: m.deployment.Name}
	var egress []string
	for _, rule := range m.network.Spec.Egress {
		for _, port := range rule.Ports {
			egress = append(egress, fmt.Sprint(*port.Protocol, " ", port.Port, " ", len(rule.To)))
		}
	}
	for _, field := range []struct {
		what      string
		got, want any
	}{
		{"a read-only root file system", *m.container.SecurityContext.ReadOnlyRootFilesystem, true},
		{"a token for the cluster", *pod.AutomountServiceAccountToken, false},
		{"variables for the namespace's Services", *pod.EnableServiceLinks, false},
		{"the ConfigMap of the settings", m.container.EnvFrom[0].ConfigMapRef.Name, m.config.Name},

		{"the autoscaler's target", m.autoscaler.Spec.ScaleTargetRef, target},
		{"the autoscaler's minimum", *m.autoscaler.Spec.MinReplicas, *m.deployment.Spec.Replicas},
		{"pods missing during an update", rolling.MaxUnavailable, 0},
		{"pods that a drain may take at once", m.budget.Spec.MaxUnavailable, 1},

		{"policy types", m.network.Spec.PolicyTypes, "[Ingress Egress]"},
		{"egress: protocol, port, number of peers", egress, "[UDP 53 1 TCP 53 1 TCP 443 0]"},

		{"the folder of the secret's file", mount.MountPath, path.Dir(file)},
		{"the mounted volume", mount.Name, pod.Volumes[0].Name},
		{"a subPath, with which a rotated secret would never arrive", mount.SubPath, ""},
		{"a read-only secret", mount.ReadOnly, true},
		{"the secret", []any{secret.SecretName, len(secret.Items)}, []any{name, 0}},
		{"the file's mode: for the pod's group, and no other user", *secret.DefaultMode, 0o440},
		{"the file's group", *pod.SecurityContext.FSGroup, *pod.SecurityContext.RunAsGroup},
	} {
		want(t, field.what, field.got, field.want)
	}
	for _, rule := range m.network.Spec.Ingress {
		if len(rule.From) == 0 {
			t.Errorf("any pod can reach the port %s", rule.Ports[0].Port)
		}
	}
}

func TestKubernetesLimits(t *testing.T) {
	m := decode(t)
	preStop := m.container.Lifecycle.PreStop.Sleep.Seconds
	grace := *m.template.Spec.TerminationGracePeriodSeconds
	if preStop < 1 || grace < preStop+11 { // the server exits within 11 s of SIGTERM
		t.Errorf("the grace period is %d s, want 11 s more than preStop's %d s", grace, preStop)
	}
	for _, probe := range []*corev1.Probe{m.container.LivenessProbe, m.container.ReadinessProbe} {
		if probe.PeriodSeconds*probe.FailureThreshold < 60 {
			t.Errorf("%s fails within a minute: an attack can take the pods away", probe.HTTPGet.Path)
		}
	}
	// Go's MiB is Kubernetes' Mi.
	soft, err := resource.ParseQuantity(strings.TrimSuffix(m.env["GOMEMLIMIT"], "B"))
	check(t, err)
	limit := m.container.Resources.Limits.Memory().Value()
	if got := float64(soft.Value()) / float64(limit); got < 0.85 || got > 0.95 {
		t.Errorf("GOMEMLIMIT is %.2f of the memory limit, want about 0.9", got)
	}
}
