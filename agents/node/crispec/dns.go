package crispec

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// dns returns the pod's resolv.conf, by its dnsPolicy and dnsConfig.
func (n Node) dns(pod *v1.Pod) *runtimeapi.DNSConfig {
	host := parseResolv(n.Resolv)
	var config *runtimeapi.DNSConfig
	policy := pod.Spec.DNSPolicy
	cluster := policy == v1.DNSClusterFirstWithHostNet || (policy == v1.DNSClusterFirst || policy == "") && !pod.Spec.HostNetwork
	switch {
	case policy == v1.DNSNone:
		config = &runtimeapi.DNSConfig{}
	case cluster && len(n.DNS) > 0:
		config = &runtimeapi.DNSConfig{Servers: slices.Clone(n.DNS), Options: []string{"ndots:5"}}
		if n.Domain != "" {
			config.Searches = []string{pod.Namespace + ".svc." + n.Domain, "svc." + n.Domain, n.Domain}
		}
		config.Searches = append(config.Searches, host.Searches...)
	default:
		config = host
	}
	if more := pod.Spec.DNSConfig; more != nil {
		config.Servers = unique(append(config.Servers, more.Nameservers...))
		config.Searches = unique(append(config.Searches, more.Searches...))
		config.Options = options(config.Options, more.Options)
	}
	return config
}

// parseResolv reads the lines of a resolv.conf that matter to a pod.
func parseResolv(content string) *runtimeapi.DNSConfig {
	config := &runtimeapi.DNSConfig{}
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			config.Servers = append(config.Servers, fields[1])
		case "search":
			config.Searches = fields[1:] // The last one counts.
		case "options":
			config.Options = append(config.Options, fields[1:]...)
		}
	}
	return config
}

// options adds resolver options, each replacing one of the same name.
func options(have []string, more []v1.PodDNSConfigOption) []string {
	for _, o := range more {
		have = slices.DeleteFunc(have, func(h string) bool {
			name, _, _ := strings.Cut(h, ":")
			return name == o.Name
		})
		text := o.Name
		if o.Value != nil && *o.Value != "" {
			text += ":" + *o.Value
		}
		have = append(have, text)
	}
	return have
}

func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// Hosts is the content of the pod's /etc/hosts, given its addresses and, for a
// pod on the host's network, the host's own file.
func (n Node) Hosts(pod *v1.Pod, ips []string, host string) string {
	var b strings.Builder
	if pod.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n")
		b.WriteString(host)
	} else {
		b.WriteString("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
		for _, ip := range ips {
			if full := n.fullName(pod); full != "" {
				fmt.Fprintf(&b, "%s\t%s\t%s\n", ip, full, Hostname(pod))
			} else {
				fmt.Fprintf(&b, "%s\t%s\n", ip, Hostname(pod))
			}
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, alias := range pod.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
		}
	}
	return b.String()
}
