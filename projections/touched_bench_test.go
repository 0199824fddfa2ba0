package projections_test

import (
	"testing"

	core "k8s.io/api/core/v1"

	"github.com/reprise-run/reprise/events"
	"github.com/reprise-run/reprise/projections"
	"github.com/reprise-run/reprise/projections/projectionstest"
)

const podDoc = `{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"2026-01-01T00:00:00Z","generateName":"web-7c9-","labels":{"app":"web","pod-template-hash":"7c9"},"managedFields":[{"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:generateName":{},"f:labels":{".":{},"f:app":{},"f:pod-template-hash":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"a\"}":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:resources":{},"f:terminationMessagePath":{},"f:terminationMessagePolicy":{}}},"f:dnsPolicy":{},"f:enableServiceLinks":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:terminationGracePeriodSeconds":{}}},"manager":"controller:replicaset","operation":"Update","time":"2026-01-01T00:00:00Z"}],"name":"web-7c9-abcde","namespace":"shop","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web-7c9","uid":"1"}]},"spec":{"containers":[{"image":"web:1","imagePullPolicy":"IfNotPresent","name":"web","resources":{"requests":{"cpu":"10m","memory":"16Mi"}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","volumeMounts":[{"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount","name":"kube-api-access","readOnly":true}]}],"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"nodeName":"n1","preemptionPolicy":"PreemptLowerPriority","priority":0,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"default","serviceAccountName":"default","terminationGracePeriodSeconds":30,"tolerations":[{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists","tolerationSeconds":300},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists","tolerationSeconds":300}],"volumes":[{"name":"kube-api-access","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"items":[{"key":"ca.crt","path":"ca.crt"}],"name":"kube-root-ca.crt"}},{"downwardAPI":{"items":[{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"},"path":"namespace"}]}}]}}]},"status":{"phase":"Pending","qosClass":"Burstable"}}`

// BenchmarkAs decodes a version of a pod that differs from the one before it in its
// status, and for comparison one before which there is none.
func BenchmarkAs(b *testing.B) {
	ref := events.Ref{Resource: "pods", Namespace: "shop", Name: "web-7c9-abcde"}
	h, s := projectionstest.NewHistory(), projections.NewState()
	h.Create(ref, podDoc)
	h.Update(ref, `[{"op":"add","path":"/status/conditions","value":[{"lastTransitionTime":"2026-01-01T00:00:01Z","status":"True","type":"Ready"},{"lastTransitionTime":"2026-01-01T00:00:01Z","status":"True","type":"ContainersReady"}]},{"op":"replace","path":"/status/phase","value":"Running"},{"op":"add","path":"/status/podIP","value":"10.0.0.1"}]`)
	if _, err := s.Fold(h.Events[:1]); err != nil {
		b.Fatal(err)
	}
	before := s.View().Get(ref)
	projections.As[core.Pod](before)
	b.Run("next", func(b *testing.B) {
		for b.Loop() {
			after, err := projections.Step(before, &h.Events[1])
			if err != nil {
				b.Fatal(err)
			}
			projections.As[core.Pod](after)
		}
	})
	b.Run("step", func(b *testing.B) {
		for b.Loop() {
			if _, err := projections.Step(before, &h.Events[1]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("whole", func(b *testing.B) {
		for b.Loop() {
			projections.As[core.Pod](fresh(before))
		}
	})
}
