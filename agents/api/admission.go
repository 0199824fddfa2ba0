package api

import (
	"context"

	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/metrics"
	mutatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	validatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/resourcequota"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/mutating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/validating"
	"k8s.io/kubernetes/plugin/pkg/admission/limitranger"

	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/live"
)

// decorators are what upstream's admission plugins are wrapped in, from the inside out.
func decorators(p live.Projection) admission.Decorators {
	return admission.Decorators{
		admission.DecoratorFunc(func(plugin admission.Interface, name string) admission.Interface {
			if by, is := rules[name]; is {
				return ruled{plugin, p, by}
			}
			return plugin
		}),
		admission.DecoratorFunc(func(plugin admission.Interface, name string) admission.Interface {
			return timed{plugin, metrics.WithControllerMetrics(plugin, name)}
		}),
	}
}

// rules are the objects by which those plugins judge that judge by nothing else. There is
// no other configuration: upstream's server is given no file for them.
var rules = map[string]rule{
	mutating.PluginName:         {"admissionregistration.k8s.io", "mutatingwebhookconfigurations", false},
	validating.PluginName:       {"admissionregistration.k8s.io", "validatingwebhookconfigurations", false},
	mutatingpolicy.PluginName:   {"admissionregistration.k8s.io", "mutatingadmissionpolicies", false},
	validatingpolicy.PluginName: {"admissionregistration.k8s.io", "validatingadmissionpolicies", false},
	limitranger.PluginName:      {"", "limitranges", true},
	resourcequota.PluginName:    {"", "resourcequotas", true},
}

type rule struct {
	group, resource string
	namespaced      bool // and holds in its namespace
}

// ruled is a plugin that is not asked while there is no rule by which it judges. It would
// find that out itself, but not for nothing: it waits for its informers by a timer, copies
// the object, or hands it to another goroutine. The projection knows of a new rule before
// the plugin does.
type ruled struct {
	admission.Interface
	projection live.Projection
	by         rule
}

// Admit implements admission.MutationInterface.
func (r ruled) Admit(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if m, ok := r.Interface.(admission.MutationInterface); ok && r.any(a) {
		return m.Admit(ctx, a, o)
	}
	return nil
}

// Validate implements admission.ValidationInterface.
func (r ruled) Validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if v, ok := r.Interface.(admission.ValidationInterface); ok && r.any(a) {
		return v.Validate(ctx, a, o)
	}
	return nil
}

// any says whether there is a rule that may hold for what is asked.
func (r ruled) any(a admission.Attributes) bool {
	namespace := ""
	if r.by.namespaced {
		namespace = a.GetNamespace()
	}
	return projections.Any(r.projection.View(), r.by.group, r.by.resource, namespace)
}

// timed is a plugin of whose decisions upstream's metrics tell how long they took, but for
// those on commands of this process: there are thirty plugins, which mostly have nothing
// to say, and to measure each would cost more than it does. Of these the metrics tell how
// long all together took.
type timed struct {
	admission.Interface
	measured admission.Interface
}

// Admit implements admission.MutationInterface.
func (t timed) Admit(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if m, ok := t.plugin(ctx).(admission.MutationInterface); ok {
		return m.Admit(ctx, a, o)
	}
	return nil
}

// Validate implements admission.ValidationInterface.
func (t timed) Validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if v, ok := t.plugin(ctx).(admission.ValidationInterface); ok {
		return v.Validate(ctx, a, o)
	}
	return nil
}

func (t timed) plugin(ctx context.Context) admission.Interface {
	if ctx.Value(insideKey{}) != nil {
		return t.Interface
	}
	return t.measured
}

// insideKey marks the context of a command that comes from this process.
type insideKey struct{}
