package tests

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"
	"time"

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

const secretFile = "ITM_TOKEN_SERVER_CLIENT_SECRET_FILE"

// manifest holds the objects of kubernetes.yaml, one of each kind.
type manifest struct {
	text       string
	namespace  *corev1.Namespace
	config     *corev1.ConfigMap
	deployment *appsv1.Deployment
	service    *corev1.Service
	budget     *policyv1.PodDisruptionBudget
	autoscaler *autoscalingv2.HorizontalPodAutoscaler
	network    *networkingv1.NetworkPolicy
	pod        *corev1.PodSpec
	container  *corev1.Container
}

// decode reads the manifest strictly: an unknown or repeated field is an error, as with
// `kubectl apply --validate=strict`.
func decode(t *testing.T) *manifest {
	t.Helper()
	text, err := os.ReadFile("../kubernetes.yaml")
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
	m := &manifest{text: string(text)}
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("kubernetes.yaml: %v in\n%s", err, document)
		}
		meta := object.(metav1.Object)
		want(t, fmt.Sprintf("the name of the %T", object), meta.GetName(), "itwin-token-server")
		switch o := object.(type) {
		case *corev1.Namespace:
			m.namespace = o
			continue // it has no namespace itself
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
			t.Errorf("kubernetes.yaml has a %T, which no test checks", o)
		}
		want(t, fmt.Sprintf("the namespace of the %T", object), meta.GetNamespace(), "itwin-token-server")
	}
	if m.namespace == nil || m.config == nil || m.deployment == nil || m.service == nil ||
		m.budget == nil || m.autoscaler == nil || m.network == nil {
		t.Fatalf("kubernetes.yaml lacks an object: %+v", m)
	}
	m.pod = &m.deployment.Spec.Template.Spec
	want(t, "the number of containers", len(m.pod.Containers), 1)
	m.container = &m.pod.Containers[0]
	return m
}

// environment is what the container gets: the ConfigMap, then the container's own variables.
func (m *manifest) environment() map[string]string {
	env := map[string]string{}
	for name, value := range m.config.Data {
		env[name] = value
	}
	for _, e := range m.container.Env {
		env[e.Name] = e.Value
	}
	return env
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestKubernetesPodIsRestricted(t *testing.T) {
	m := decode(t)
	want(t, "the namespace enforces", m.namespace.Labels[psaapi.EnforceLevelLabel], psaapi.LevelRestricted)
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
	want(t, "a read-only root file system", *m.container.SecurityContext.ReadOnlyRootFilesystem, true)
	want(t, "a token for the cluster", *m.pod.AutomountServiceAccountToken, false)
}

func TestKubernetesObjectsReferToEachOther(t *testing.T) {
	m := decode(t)
	selectors := map[string]*metav1.LabelSelector{
		"Deployment":          m.deployment.Spec.Selector,
		"Service":             {MatchLabels: m.service.Spec.Selector},
		"PodDisruptionBudget": m.budget.Spec.Selector,
		"NetworkPolicy":       &m.network.Spec.PodSelector,
	}
	for _, spread := range m.pod.TopologySpreadConstraints {
		selectors["spread over "+spread.TopologyKey] = spread.LabelSelector
	}
	pods := labels.Set(m.deployment.Spec.Template.Labels)
	for name, s := range selectors {
		selector, err := metav1.LabelSelectorAsSelector(s)
		if err != nil || selector.Empty() || !selector.Matches(pods) {
			t.Errorf("%s selects %v (%v), which does not match the pods' labels %v", name, s, err, pods)
		}
	}
	want(t, "the autoscaler's target", m.autoscaler.Spec.ScaleTargetRef, autoscalingv2.CrossVersionObjectReference{
		APIVersion: m.deployment.APIVersion, Kind: m.deployment.Kind, Name: m.deployment.Name})
	want(t, "the ConfigMap of the settings", m.container.EnvFrom[0].ConfigMapRef.Name, m.config.Name)
}

func TestKubernetesKeepsThreeReplicas(t *testing.T) {
	m := decode(t)
	want(t, "replicas", *m.deployment.Spec.Replicas, 3)
	want(t, "the autoscaler's minimum", *m.autoscaler.Spec.MinReplicas, 3)
	rolling := m.deployment.Spec.Strategy.RollingUpdate
	want(t, "pods missing during an update", rolling.MaxUnavailable, "0")
	want(t, "pods added during an update", rolling.MaxSurge, "1")
	want(t, "pods that a drain may take at once", m.budget.Spec.MaxUnavailable, "1")
	node := m.pod.TopologySpreadConstraints[0]
	want(t, "the first spread constraint", []any{node.TopologyKey, node.WhenUnsatisfiable, node.MaxSkew},
		[]any{corev1.LabelHostname, corev1.DoNotSchedule, 1})
	// The server exits within 10 s of SIGTERM.
	preStop := time.Duration(m.container.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	grace := time.Duration(*m.pod.TerminationGracePeriodSeconds) * time.Second
	if preStop < time.Second || grace < preStop+11*time.Second {
		t.Errorf("the grace period is %v, want preStop's %v (at least 1 s) and 11 s more", grace, preStop)
	}
}

func TestKubernetesNetworkIsClosed(t *testing.T) {
	m := decode(t)
	want(t, "policy types", m.network.Spec.PolicyTypes, "[Ingress Egress]")
	var egress []string
	for _, rule := range m.network.Spec.Egress {
		for _, port := range rule.Ports {
			egress = append(egress, string(*port.Protocol)+" "+port.Port.String())
		}
	}
	want(t, "ports out of the pod", strings.Join(egress, ", "), "UDP 53, TCP 53, TCP 443")
	for _, rule := range m.network.Spec.Ingress {
		if rule.Ports[0].Port.String() == "metrics" && len(rule.From) == 0 {
			t.Error("any pod can read the metrics")
		}
	}
}

func TestKubernetesSecretIsAFile(t *testing.T) {
	m := decode(t)
	file := m.environment()[secretFile]
	mount, secret := m.container.VolumeMounts[0], m.pod.Volumes[0].Secret
	want(t, "the folder of the secret's file", mount.MountPath, path.Dir(file))
	want(t, "the mounted volume", mount.Name, m.pod.Volumes[0].Name)
	// With a subPath a rotated secret would never arrive.
	want(t, "subPath and read-only", []any{mount.SubPath, mount.ReadOnly}, []any{"", true})
	want(t, "the secret", []any{secret.SecretName, len(secret.Items)}, []any{"itwin-token-server", 0})
	if !strings.Contains(m.text, "generic itwin-token-server --from-file="+path.Base(file)) {
		t.Errorf("the first comment does not create a secret with the key %s", path.Base(file))
	}
	// Readable for the pod's group, and for no other user.
	want(t, "the file's mode", *secret.DefaultMode, 0o440)
	want(t, "the file's group", *m.pod.SecurityContext.FSGroup, *m.pod.SecurityContext.RunAsGroup)
}

func TestKubernetesMemoryLimitAllowsForTheCollector(t *testing.T) {
	m := decode(t)
	limit := m.container.Resources.Limits.Memory().Value()
	// Go's MiB is Kubernetes' Mi.
	soft, err := resource.ParseQuantity(strings.TrimSuffix(m.environment()["GOMEMLIMIT"], "B"))
	if err != nil {
		t.Fatalf("GOMEMLIMIT: %v", err)
	}
	if got := float64(soft.Value()) / float64(limit); got < 0.85 || got > 0.95 {
		t.Errorf("GOMEMLIMIT is %.2f of the memory limit, want about 0.9", got)
	}
}
