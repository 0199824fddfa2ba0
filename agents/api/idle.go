package api

import (
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/warning"
)

// idle are the resources whose objects the API takes, as all of Kubernetes', and on which
// nobody acts so far, with what whoever creates one is told. Whoever makes one of them act
// takes it out, here and in the README.
var idle = map[schema.GroupResource]string{
	{Resource: "replicationcontrollers"}:                                   "no pods come of a ReplicationController",
	{Group: "apps", Resource: "statefulsets"}:                              "no pods come of a StatefulSet",
	{Group: "apps", Resource: "daemonsets"}:                                "no pods come of a DaemonSet",
	{Group: "batch", Resource: "jobs"}:                                     "no pods come of a Job",
	{Group: "batch", Resource: "cronjobs"}:                                 "no Jobs come of a CronJob",
	{Group: "autoscaling", Resource: "horizontalpodautoscalers"}:           "a HorizontalPodAutoscaler scales nothing",
	{Resource: "services"}:                                                 "nothing leads to the address of a Service, and it has no name",
	{Resource: "resourcequotas"}:                                           "a ResourceQuota refuses nothing",
	{Resource: "persistentvolumeclaims"}:                                   "nobody finds a volume for a PersistentVolumeClaim",
	{Group: "networking.k8s.io", Resource: "networkpolicies"}:              "a NetworkPolicy keeps nobody out",
	{Group: "policy", Resource: "poddisruptionbudgets"}:                    "a PodDisruptionBudget lets no eviction pass",
	{Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}: "a CertificateSigningRequest can be approved and is not signed",
}

// warned has clients warned who create an object on which nobody acts: kubectl and Helm
// print that, and else would wait for what never comes.
func warned(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if info, ok := request.RequestInfoFrom(ctx); ok && info.IsResourceRequest && info.Subresource == "" && creates(info, r) {
			by, known := request.UserFrom(ctx)
			if what, is := idle[schema.GroupResource{Group: info.APIGroup, Resource: info.Resource}]; is && known && by.GetName() != user.APIServerUser {
				warning.AddWarning(ctx, "", "Reprise keeps this and does not act on it yet: "+what)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// creates says whether a request may create an object: one that is applied, in whichever
// encoding, is created if it is not there.
func creates(info *request.RequestInfo, r *http.Request) bool {
	content := r.Header.Get("Content-Type")
	return info.Verb == "create" || info.Verb == "patch" &&
		(strings.HasPrefix(content, string(types.ApplyYAMLPatchType)) || strings.HasPrefix(content, string(types.ApplyCBORPatchType)))
}
