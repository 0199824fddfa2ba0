#!/bin/sh
# Builds one of the programs that Reprise runs beside itself, from the module
# that pins it, into dist/: build.sh containerd|runc|cni|helm|kubectl|kubernetes|etcd|kwok
set -eu
cd "$(dirname "$0")/$1"
dist=$(cd ../../.. && pwd)/dist
mkdir -p "$dist/bin" "$dist/cni"
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false

say() { printf '  %-10s %s\n' "$1" "$2"; }

# version MODULE: the version that go.mod pins
version() { go list -m -f '{{.Version}}' "$1"; }

# stamp MODULE: the linker's flags that tell Kubernetes' programs their version
stamp() {
	at=$(version "$1")
	minor=${at#v*.}
	major=${at#v}
	printf '%s' "-X k8s.io/component-base/version.gitVersion=$at" \
		" -X k8s.io/component-base/version.gitMajor=${major%%.*}" \
		" -X k8s.io/component-base/version.gitMinor=${minor%%.*}"
}

# build LDFLAGS PACKAGE OUTPUT [FLAGS]: writes beside and renames, so that a
# program that is running keeps its file
build() {
	ldflags=$1 package=$2 output=$3
	shift 3
	go build -trimpath -ldflags "-s -w $ldflags" "$@" -o "$output.new" "$package"
	mv -f "$output.new" "$output"
}

case $1 in
containerd)
	module=github.com/containerd/containerd/v2
	say containerd "$(version $module), and its shim with our addition"
	flags="-X $module/version.Version=$(version $module) -X $module/version.Package=$module"
	tags=no_btrfs,no_devmapper,no_zfs
	build "$flags" $module/cmd/containerd "$dist/bin/containerd" -tags $tags
	build "$flags" ./shim "$dist/bin/containerd-shim-runc-v2" -tags no_grpc,reprise_hides
	;;
runc)
	module=github.com/opencontainers/runc
	say runc "$(version $module)"
	if ! CGO_ENABLED=1 build "-X main.version=$(version $module | sed s/^v//)" $module "$dist/bin/runc" -tags seccomp; then
		echo "  runc did not build from source; taking Debian's older runc instead" >&2
		apt-get install -y -qq --no-install-recommends runc >/dev/null
		cp "$(command -v runc)" "$dist/bin/runc"
	fi
	;;
cni)
	module=github.com/containernetworking/plugins
	say cni "plugins $(version $module)"
	flags="-X $module/pkg/utils/buildversion.BuildVersion=$(version $module)"
	for package in $(go list tool); do
		build "$flags" "$package" "$dist/cni/$(basename "$package")"
	done
	;;
helm)
	module=helm.sh/helm/v3
	say helm "$(version $module), for the tests"
	build "-X $module/internal/version.version=$(version $module)" $module/cmd/helm "$dist/bin/helm"
	;;
kubectl)
	module=k8s.io/kubernetes
	say kubectl "$(version $module), unmodified, for the tests"
	build "$(stamp $module)" $module/cmd/kubectl "$dist/bin/kubectl"
	;;
kubernetes)
	module=k8s.io/kubernetes
	say kubernetes "$(version $module), unmodified, to compare with"
	mkdir -p "$dist/peer"
	for package in $(go list tool); do
		build "$(stamp $module)" "$package" "$dist/peer/$(basename "$package")"
	done
	;;
etcd)
	module=go.etcd.io/etcd/server/v3
	say etcd "$(version $module), to compare with"
	mkdir -p "$dist/peer"
	build "" $module "$dist/peer/etcd"
	;;
kwok)
	module=sigs.k8s.io/kwok
	say kwok "$(version $module), the nodes of what we compare with"
	mkdir -p "$dist/peer"
	build "" $module/cmd/kwok "$dist/peer/kwok"
	# Its pods start and end at once, and its nodes renew leases.
	stages=$(go list -m -f '{{.Dir}}' $module)/kustomize/stage
	for stage in pod/fast/pod-ready pod/fast/pod-delete node/fast/node-initialize node/heartbeat-with-lease/node-heartbeat-with-lease; do
		echo ---
		cat "$stages/$stage.yaml"
	done >"$dist/peer/stages.yaml"
	;;
*)
	echo "build.sh: no tool named $1" >&2
	exit 2
	;;
esac
