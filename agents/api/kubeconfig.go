package api

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
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

// writeKubeconfig writes the administrator's access, if a file is named.
func (s *Server) writeKubeconfig(file string) error {
	if file == "" {
		return nil
	}
	data, err := s.KubeconfigFor("admin", "system:masters")
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
