package api

import (
	"context"

	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/metrics"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/mutating"
	"k8s.io/kubernetes/plugin/pkg/admission/limitranger"

	"github.com/reprise-run/reprise/projections/live"
)

// decorators are what upstream's admission plugins are wrapped in, from the inside out.
func decorators(p live.Projection) admission.Decorators {
	return admission.Decorators{
		admission.DecoratorFunc(func(plugin admission.Interface, name string) admission.Interface {
			if m, ok := plugin.(admission.MutationInterface); ok && name == mutating.PluginName {
				return webhooks{m, p}
			}
			if b, ok := plugin.(mutatingAndValidating); ok && name == limitranger.PluginName {
				return limits{b, p}
			}
			return plugin
		}),
		admission.DecoratorFunc(func(plugin admission.Interface, name string) admission.Interface {
			return timed{plugin, metrics.WithControllerMetrics(plugin, name)}
		}),
	}
}

// webhooks is upstream's plugin that calls mutating webhooks. It keeps a copy of each
// object, to tell by it whether a webhook is to be called again, and so is not asked while
// there is none. The projection knows of a new one before the plugin does.
type webhooks struct {
	admission.MutationInterface
	projection live.Projection
}

// Admit implements admission.MutationInterface.
func (w webhooks) Admit(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if !w.configured() {
		return nil
	}
	return w.MutationInterface.Admit(ctx, a, o)
}

func (w webhooks) configured() (any bool) {
	for range w.projection.View().List("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "") {
		any = true
	}
	return any
}

type mutatingAndValidating interface {
	admission.MutationInterface
	admission.ValidationInterface
}

// limits is upstream's plugin for LimitRanges. It lists those of a pod's namespace twice for
// each pod, and so is not asked while there is none. The projection knows of a new one
// before the plugin does.
type limits struct {
	mutatingAndValidating
	projection live.Projection
}

// Admit implements admission.MutationInterface.
func (l limits) Admit(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if !l.configured(a.GetNamespace()) {
		return nil
	}
	return l.mutatingAndValidating.Admit(ctx, a, o)
}

// Validate implements admission.ValidationInterface.
func (l limits) Validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if !l.configured(a.GetNamespace()) {
		return nil
	}
	return l.mutatingAndValidating.Validate(ctx, a, o)
}

func (l limits) configured(namespace string) bool {
	for range l.projection.View().List("", "limitranges", namespace) {
		return true
	}
	return false
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
