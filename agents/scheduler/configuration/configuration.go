// Package configuration reads a KubeSchedulerConfiguration as kube-scheduler does,
// as far as our scheduler can be set up so. What would make pods go elsewhere and
// cannot be followed is refused by its name; what only says how the process of
// kube-scheduler runs is passed over. cmd calls it at the start of a server and of a trial
// (agents/replay). It decides nothing about pods.
package configuration

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	config "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"

	"github.com/reprise-run/reprise/agents/scheduler"
)

// Parse reads a configuration in YAML or JSON.
func Parse(text []byte) (scheduler.Policy, error) {
	var p scheduler.Policy
	var c config.KubeSchedulerConfiguration
	if err := yaml.UnmarshalStrict(text, &c); err != nil {
		return p, fmt.Errorf("it is no KubeSchedulerConfiguration: %w", err)
	}
	if c.APIVersion != config.SchemeGroupVersion.String() || c.Kind != "KubeSchedulerConfiguration" {
		return p, fmt.Errorf("it is a %q of %q, and must be a KubeSchedulerConfiguration of %s", c.Kind, c.APIVersion, config.SchemeGroupVersion)
	}
	switch {
	case len(c.Extenders) > 0:
		return p, unsupported("extenders", "it calls nobody")
	case !all(c.PercentageOfNodesToScore):
		return p, unsupported("percentageOfNodesToScore", "it looks at all nodes")
	case len(c.Profiles) > 1:
		return p, unsupported("profiles[1]", "it has one profile")
	case len(c.Profiles) == 0:
		return p, nil
	}
	return p, parseProfile(&p, &c.Profiles[0])
}

// all says whether all nodes are to be scored.
func all(percentage *int32) bool { return percentage == nil || *percentage == 100 }

func unsupported(field, why string) error {
	return fmt.Errorf("%s is not supported by this scheduler: %s", field, why)
}

func parseProfile(p *scheduler.Policy, profile *config.KubeSchedulerProfile) error {
	if name := profile.SchedulerName; name != nil && *name != v1.DefaultSchedulerName {
		return unsupported("profiles[0].schedulerName", "it is the scheduler of pods that name none, "+v1.DefaultSchedulerName)
	}
	if !all(profile.PercentageOfNodesToScore) {
		return unsupported("profiles[0].percentageOfNodesToScore", "it looks at all nodes")
	}
	if profile.Plugins != nil {
		if err := parsePlugins(p, profile.Plugins); err != nil {
			return err
		}
	}
	seen := map[string]bool{}
	for _, c := range profile.PluginConfig {
		field := "profiles[0].pluginConfig of " + c.Name
		if seen[c.Name] {
			return fmt.Errorf("%s is there twice", field)
		}
		seen[c.Name] = true
		if err := parseArgs(p, field, c); err != nil {
			return err
		}
	}
	return nil
}

// filtering are the scores whose plugins also refuse nodes.
var filtering = []scheduler.Score{scheduler.TaintToleration, scheduler.NodeAffinity, scheduler.ResourcesFit, scheduler.TopologySpread, scheduler.InterPodAffinity}

// parsePlugins sets the weights of scores. Other plugins cannot be chosen.
func parsePlugins(p *scheduler.Policy, plugins *config.Plugins) error {
	v := reflect.ValueOf(*plugins)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		set := v.Field(i).Interface().(config.PluginSet)
		if name == "Score" || name == "MultiPoint" || len(set.Enabled)+len(set.Disabled) == 0 {
			continue
		}
		return unsupported("profiles[0].plugins."+strings.ToLower(name[:1])+name[1:], "only what scores nodes can be chosen")
	}
	weights := map[scheduler.Score]int64{}
	for _, d := range plugins.MultiPoint.Disabled {
		if d.Name == "*" || slices.Contains(filtering, scheduler.Score(d.Name)) {
			return unsupported("profiles[0].plugins.multiPoint.disabled "+d.Name, "it would no longer refuse nodes; disable the score alone")
		}
		if err := disable(weights, "profiles[0].plugins.multiPoint", d.Name); err != nil {
			return err
		}
	}
	if err := enable(weights, "profiles[0].plugins.multiPoint", plugins.MultiPoint.Enabled); err != nil {
		return err
	}
	for _, d := range plugins.Score.Disabled {
		if err := disable(weights, "profiles[0].plugins.score", d.Name); err != nil {
			return err
		}
	}
	if err := enable(weights, "profiles[0].plugins.score", plugins.Score.Enabled); err != nil {
		return err
	}
	for s, w := range weights {
		if w == scheduler.DefaultWeights[s] {
			delete(weights, s)
		}
	}
	if len(weights) > 0 {
		p.Weights = weights
	}
	return nil
}

func disable(weights map[scheduler.Score]int64, field, name string) error {
	if name == "*" {
		for s := range scheduler.DefaultWeights {
			weights[s] = 0
		}
		return nil
	}
	if _, known := scheduler.DefaultWeights[scheduler.Score(name)]; !known {
		return unsupported(field+".disabled "+name, "it has no such score")
	}
	weights[scheduler.Score(name)] = 0
	return nil
}

func enable(weights map[scheduler.Score]int64, field string, plugins []config.Plugin) error {
	for _, e := range plugins {
		s := scheduler.Score(e.Name)
		if _, known := scheduler.DefaultWeights[s]; !known {
			return unsupported(field+".enabled "+e.Name, "it has no such score")
		}
		switch {
		case e.Weight == nil || *e.Weight == 0:
			weights[s] = 1 // as kube-scheduler takes it
		case *e.Weight < 0:
			return fmt.Errorf("%s.enabled %s: the weight %d is negative", field, e.Name, *e.Weight)
		default:
			weights[s] = int64(*e.Weight)
		}
	}
	return nil
}

func parseArgs(p *scheduler.Policy, field string, c config.PluginConfig) error {
	switch scheduler.Score(c.Name) {
	case scheduler.ResourcesFit:
		var args config.NodeResourcesFitArgs
		if err := decode(field, c, &args); err != nil {
			return err
		}
		if len(args.IgnoredResources)+len(args.IgnoredResourceGroups) > 0 {
			return unsupported(field+": ignoredResources", "it heeds all")
		}
		return parseFit(p, field+": scoringStrategy", args.ScoringStrategy)
	case scheduler.TopologySpread:
		var args config.PodTopologySpreadArgs
		if err := decode(field, c, &args); err != nil {
			return err
		}
		return parseSpread(p, field, &args)
	case scheduler.NodeAffinity:
		var args config.NodeAffinityArgs
		if err := decode(field, c, &args); err != nil {
			return err
		}
		p.Affinity = args.AddedAffinity
		_, err := scheduler.NewWith("", scheduler.Policy{Affinity: p.Affinity})
		return err
	case scheduler.InterPodAffinity:
		var args config.InterPodAffinityArgs
		if err := decode(field, c, &args); err != nil {
			return err
		}
		p.DeafToPods = args.IgnorePreferredTermsOfExistingPods
		if w := args.HardPodAffinityWeight; w != nil && *w != 1 {
			if *w < 0 || *w > 100 {
				return fmt.Errorf("%s: hardPodAffinityWeight is %d, and must be from 0 to 100", field, *w)
			}
			weight := int64(*w)
			p.HardPodAffinity = &weight
		}
		return nil
	}
	return unsupported(field, "it has nothing to set up there")
}

func decode(field string, c config.PluginConfig, into any) error {
	d := c.Args.Raw
	if len(bytes.TrimSpace(d)) == 0 {
		return nil
	}
	if err := yaml.UnmarshalStrict(d, into); err != nil {
		return fmt.Errorf("%s: args: %w", field, err)
	}
	return nil
}

func parseFit(p *scheduler.Policy, field string, s *config.ScoringStrategy) error {
	if s == nil {
		return nil
	}
	for i, r := range s.Resources {
		w := scheduler.ResourceWeight{Name: v1.ResourceName(r.Name), Weight: r.Weight}
		if w.Weight == 0 {
			w.Weight = 1
		}
		if w.Weight < 1 || w.Weight > 100 || r.Name == "" {
			return fmt.Errorf("%s.resources[%d]: it needs a name and a weight from 1 to 100", field, i)
		}
		p.Resources = append(p.Resources, w)
	}
	switch s.Type {
	case config.LeastAllocated, "":
	case config.MostAllocated:
		p.Fit = scheduler.MostAllocated
	case config.RequestedToCapacityRatio:
		p.Fit = scheduler.RequestedToCapacityRatio
		return parseShape(p, field+".requestedToCapacityRatio", s.RequestedToCapacityRatio)
	default:
		return unsupported(field+".type "+string(s.Type), "there are LeastAllocated, MostAllocated and RequestedToCapacityRatio")
	}
	return nil
}

// parseShape reads scores from 0 to 10, which count tenfold.
func parseShape(p *scheduler.Policy, field string, r *config.RequestedToCapacityRatioParam) error {
	if r == nil || len(r.Shape) == 0 {
		return fmt.Errorf("%s.shape has no points", field)
	}
	last := int32(-1)
	for i, s := range r.Shape {
		if s.Utilization <= last || s.Utilization > 100 || s.Score < 0 || s.Score > 10 {
			return fmt.Errorf("%s.shape[%d]: utilizations must rise from 0 to 100, and scores be from 0 to 10", field, i)
		}
		last = s.Utilization
		p.Shape = append(p.Shape, scheduler.ShapePoint{Utilization: int64(s.Utilization), Score: int64(s.Score) * 10})
	}
	return nil
}

func parseSpread(p *scheduler.Policy, field string, args *config.PodTopologySpreadArgs) error {
	if args.DefaultingType == config.SystemDefaulting {
		return unsupported(field+": defaultingType System", "pods that are alike are spread by the resources they ask for; give a List")
	}
	for i, c := range args.DefaultConstraints {
		at := fmt.Sprintf("%s: defaultConstraints[%d]", field, i)
		switch {
		case c.LabelSelector != nil:
			return fmt.Errorf("%s.labelSelector must be empty: the pods' services and controllers say which are alike", at)
		case c.MaxSkew < 1 || c.TopologyKey == "":
			return fmt.Errorf("%s needs a topologyKey, and a maxSkew of 1 at least", at)
		case c.WhenUnsatisfiable != v1.DoNotSchedule && c.WhenUnsatisfiable != v1.ScheduleAnyway:
			return fmt.Errorf("%s.whenUnsatisfiable must be DoNotSchedule or ScheduleAnyway", at)
		}
	}
	p.Spread = args.DefaultConstraints
	return nil
}
