package api

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/reprise-run/reprise/agents/api/past"
)

// KubeconfigFor returns a kubeconfig with a new client certificate for a user.
func (s *Server) KubeconfigFor(user string, groups ...string) ([]byte, error) {
	cert, key, err := s.pki.Client(user, groups...)
	if err != nil {
		return nil, err
	}
	const cluster = "reprise"
	c := clientcmdapi.NewConfig()
	c.Clusters[cluster] = &clientcmdapi.Cluster{Server: s.Address, CertificateAuthorityData: s.pki.CA()}
	c.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	c.Contexts[cluster] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: user}
	c.CurrentContext = cluster
	return clientcmd.Write(*c)
}

// keepPast adds to a kubeconfig the contexts of the past that the file has from
// before, as they lead to this server now.
func (s *Server) keepPast(data []byte, file string) ([]byte, error) {
	before, err := clientcmd.LoadFromFile(file)
	if err != nil {
		return data, nil // There is none, or none that could be used.
	}
	c, err := clientcmd.Load(data)
	if err != nil {
		return nil, err
	}
	for name, context := range before.Contexts {
		cluster, ok := before.Clusters[context.Cluster]
		if !ok || c.Contexts[name] != nil || c.AuthInfos[context.AuthInfo] == nil {
			continue
		}
		if _, point, ok := strings.Cut(cluster.Server, past.Prefix); ok {
			c.Clusters[context.Cluster] = &clientcmdapi.Cluster{Server: s.Address + past.Prefix + point, CertificateAuthorityData: s.pki.CA()}
			c.Contexts[name] = context
		}
	}
	return clientcmd.Write(*c)
}

// writeKubeconfig writes the administrator's access, if a file is named.
func (s *Server) writeKubeconfig(file string) error {
	if file == "" {
		return nil
	}
	data, err := s.KubeconfigFor("admin", "system:masters")
	if err == nil {
		data, err = s.keepPast(data, file)
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("cannot make the directory of the kubeconfig: %w", err)
	}
	if err := renameio.WriteFile(file, data, 0o600); err != nil {
		return fmt.Errorf("cannot write the kubeconfig: %w", err)
	}
	return nil
}
