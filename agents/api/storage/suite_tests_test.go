package storage_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"k8s.io/apimachinery/pkg/runtime/schema"
	upstream "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

type suiteTest func(ctx context.Context, t *testing.T, s *subject)

// plain is a test that needs nothing but the storage.
func plain(run func(context.Context, *testing.T, upstream.Interface)) suiteTest {
	return func(ctx context.Context, t *testing.T, s *subject) { run(ctx, t, s) }
}

var anyCalls = func(*testing.T, uint64, uint64) {}

// suite names every test of upstream's suite.
var suite = map[string]suiteTest{
	"RunTestCreate": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestCreate(ctx, t, s, s.validate)
	},
	"RunTestCreateWithTTL":                              plain(storagetesting.RunTestCreateWithTTL),
	"RunTestCreateWithKeyExist":                         plain(storagetesting.RunTestCreateWithKeyExist),
	"RunTestGet":                                        plain(storagetesting.RunTestGet),
	"RunTestUnconditionalDelete":                        plain(storagetesting.RunTestUnconditionalDelete),
	"RunTestConditionalDelete":                          plain(storagetesting.RunTestConditionalDelete),
	"RunTestDeleteWithSuggestion":                       plain(storagetesting.RunTestDeleteWithSuggestion),
	"RunTestDeleteWithSuggestionAndConflict":            plain(storagetesting.RunTestDeleteWithSuggestionAndConflict),
	"RunTestDeleteWithConflict":                         plain(storagetesting.RunTestDeleteWithConflict),
	"RunTestDeleteWithSuggestionOfDeletedObject":        plain(storagetesting.RunTestDeleteWithSuggestionOfDeletedObject),
	"RunTestValidateDeletionWithSuggestion":             plain(storagetesting.RunTestValidateDeletionWithSuggestion),
	"RunTestValidateDeletionWithOnlySuggestionValid":    plain(storagetesting.RunTestValidateDeletionWithOnlySuggestionValid),
	"RunTestPreconditionalDeleteWithSuggestion":         plain(storagetesting.RunTestPreconditionalDeleteWithSuggestion),
	"RunTestPreconditionalDeleteWithOnlySuggestionPass": plain(storagetesting.RunTestPreconditionalDeleteWithOnlySuggestionPass),
	"RunTestList": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestList(ctx, t, s, s.compact, s.cached, s.recorder)
	},
	"RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError(ctx, t, s, s.codec.fail)
	},
	"RunTestDeleteExpectedTransformOrDecodeError": func(ctx context.Context, t *testing.T, s *subject) {
		etcd3.TestOnlySetFatalOnDecodeError(t, false)
		storagetesting.RunTestDeleteExpectedTransformOrDecodeError(ctx, t, s, s.codec.fail)
	},
	"RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError(ctx, t, s)
	},
	"RunTestConsistentList": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestConsistentList(ctx, t, s, s.grow, s.cached, true, s.snapshots)
	},
	"RunTestGetListNonRecursive": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestGetListNonRecursive(ctx, t, s.grow, s)
	},
	"RunTestGetListRecursivePrefix": plain(storagetesting.RunTestGetListRecursivePrefix),
	"RunTestGetListWithErrorAggregation": func(ctx context.Context, t *testing.T, s *subject) {
		s.Interface = etcd3.NewStoreWithUnsafeCorruptObjectDeletion(s.Interface, schema.GroupResource{Resource: "pods"})
		storagetesting.RunTestGetListWithErrorAggregation(ctx, t, s, corrupt())
	},
	"RunTestGetListWithoutErrorAggregation": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestGetListWithoutErrorAggregation(ctx, t, s, corrupt())
	},
	"RunTestListContinuation": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestListContinuation(ctx, t, s, anyCalls)
	},
	"RunTestListPaginationRareObject": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestListPaginationRareObject(ctx, t, s, anyCalls)
	},
	"RunTestListContinuationWithFilter": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestListContinuationWithFilter(ctx, t, s, anyCalls)
	},
	"RunTestListInconsistentContinuation": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestListInconsistentContinuation(ctx, t, s, s.compact)
	},
	"RunTestListResourceVersionMatch": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestListResourceVersionMatch(ctx, t, s)
	},
	"RunTestGuaranteedUpdate": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestGuaranteedUpdate(ctx, t, s, s.validate)
	},
	"RunTestGuaranteedUpdateWithTTL": plain(storagetesting.RunTestGuaranteedUpdateWithTTL),
	"RunTestGuaranteedUpdateChecksStoredData": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestGuaranteedUpdateChecksStoredData(ctx, t, s)
	},
	"RunTestGuaranteedUpdateWithConflict":              plain(storagetesting.RunTestGuaranteedUpdateWithConflict),
	"RunTestGuaranteedUpdateWithSuggestionAndConflict": plain(storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict),
	"RunTestTransformationFailure": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestTransformationFailure(ctx, t, s)
	},
	"RunTestStats": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestStats(ctx, t, s, s.codec, s.transformer, s.sized)
	},
	"RunTestListPaging":          plain(storagetesting.RunTestListPaging),
	"RunTestNamespaceScopedList": plain(storagetesting.RunTestNamespaceScopedList),
	"RunTestCompactRevision": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestCompactRevision(ctx, t, s, s.grow, s.compact)
	},
	"RunTestKeySchema": plain(storagetesting.RunTestKeySchema),
	"RunTestWatch":     plain(storagetesting.RunTestWatch),
	"RunTestWatchFromZero": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestWatchFromZero(ctx, t, s, s.compact)
	},
	"RunTestDeleteTriggerWatch":   plain(storagetesting.RunTestDeleteTriggerWatch),
	"RunTestWatchFromNonZero":     plain(storagetesting.RunTestWatchFromNonZero),
	"RunTestDelayedWatchDelivery": plain(storagetesting.RunTestDelayedWatchDelivery),
	"RunTestWatchError": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestWatchError(ctx, t, s)
	},
	"RunTestWatchWithUnsafeDelete": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestWatchWithUnsafeDelete(ctx, t, s, corrupt())
	},
	"RunTestWatchContextCancel":                               plain(storagetesting.RunTestWatchContextCancel),
	"RunTestWatcherTimeout":                                   plain(storagetesting.RunTestWatcherTimeout),
	"RunTestWatchDeleteEventObjectHaveLatestRV":               plain(storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV),
	"RunTestWatchInitializationSignal":                        plain(storagetesting.RunTestWatchInitializationSignal),
	"RunTestClusterScopedWatch":                               plain(storagetesting.RunTestClusterScopedWatch),
	"RunTestNamespaceScopedWatch":                             plain(storagetesting.RunTestNamespaceScopedWatch),
	"RunSendInitialEventsBackwardCompatibility":               plain(storagetesting.RunSendInitialEventsBackwardCompatibility),
	"RunWatchSemantics":                                       plain(storagetesting.RunWatchSemantics),
	"RunWatchSemanticInitialEventsExtended":                   plain(storagetesting.RunWatchSemanticInitialEventsExtended),
	"RunWatchListMatchSingle":                                 plain(storagetesting.RunWatchListMatchSingle),
	"RunTestOptionalWatchBookmarksWithCorrectResourceVersion": plain(storagetesting.RunTestOptionalWatchBookmarksWithCorrectResourceVersion),
	"RunOptionalTestProgressNotify": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunOptionalTestProgressNotify(ctx, t, s, s.grow)
	},
	"RunTestWatchDispatchBookmarkEvents": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunTestWatchDispatchBookmarkEvents(ctx, t, s, s.cached)
	},
	"RunWatchErrorIsBlockingFurtherEvents": func(ctx context.Context, t *testing.T, s *subject) {
		storagetesting.RunWatchErrorIsBlockingFurtherEvents(ctx, t, s)
	},
}

func TestSuiteBare(t *testing.T) { runSuite(t, bare, notBare) }

func TestSuiteCached(t *testing.T) { runSuite(t, cached, notCached) }

func TestSuiteObjects(t *testing.T) { runSuite(t, objects, notObjects) }

func TestSuiteCrowd(t *testing.T) { runSuite(t, crowd, notObjects) }

func runSuite(t *testing.T, setup func(*testing.T) *subject, except map[string]string) {
	for name := range suite {
		t.Run(name, func(t *testing.T) {
			if why, not := except[name]; not {
				t.Skip("not run: " + why)
			}
			if on, ok := unsafe[name]; ok {
				malformed(t, on)
			}
			runOnce(t, name, setup)
		})
	}
}

// runOnce runs a test on a fake clock, by which nothing takes long however busy the
// machine is, or on the machine's.
func runOnce(t *testing.T, name string, setup func(*testing.T) *subject) {
	if realTime[name] {
		suite[name](context.Background(), t, setup(t))
		return
	}
	synctest.Test(t, func(t *testing.T) { suite[name](t.Context(), t, setup(t)) })
}

// realTime are the tests that cannot run on a fake clock.
var realTime = map[string]bool{
	// They have subtests.
	"RunTestClusterScopedWatch":          true,
	"RunTestConditionalDelete":           true,
	"RunTestConsistentList":              true,
	"RunTestCreate":                      true,
	"RunTestGet":                         true,
	"RunTestGetListNonRecursive":         true,
	"RunTestGetListRecursivePrefix":      true,
	"RunTestGetListWithErrorAggregation": true,
	"RunTestGuaranteedUpdate":            true,
	"RunTestList":                        true,
	"RunTestNamespaceScopedList":         true,
	"RunTestNamespaceScopedWatch":        true,
	"RunTestUnconditionalDelete":         true,
	"RunTestWatch":                       true,
	"RunTestWatchDispatchBookmarkEvents": true,
	"RunWatchSemantics":                  true,
	// Of these something goes on in the cache when they are over.
	"RunTestListContinuation":           true,
	"RunTestListContinuationWithFilter": true,
	"RunTestListPaginationRareObject":   true,
	"RunTestListPaging":                 true,
	"RunTestListResourceVersionMatch":   true,
	"RunTestStats":                      true,
	"RunTestWatcherTimeout":             true,
}

// TestSuiteIsWhole fails when upstream has a test that is not in our list.
func TestSuiteIsWhole(t *testing.T) {
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "k8s.io/apiserver/pkg/storage/testing").Output()
	if err != nil {
		t.Fatalf("the sources of upstream's suite cannot be found: %v", err)
	}
	only := func(f fs.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }
	packages, err := parser.ParseDir(token.NewFileSet(), strings.TrimSpace(string(dir)), only, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages {
		for _, f := range p.Files {
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Run") || strings.HasPrefix(fn.Name.Name, "RunBenchmark") {
					continue
				}
				if suite[fn.Name.Name] == nil {
					t.Errorf("upstream's suite has %s, which is neither run here nor excused", fn.Name.Name)
				}
			}
		}
	}
	for _, except := range []map[string]string{notBare, notObjects} {
		for name := range except {
			if !slices.Contains(names(), name) {
				t.Errorf("%s is excused, but upstream's suite has no such test", name)
			}
		}
	}
}

func names() (all []string) {
	for name := range suite {
		all = append(all, name)
	}
	return all
}

// unsafe says which tests need the deletion of unreadable objects on, or off.
var unsafe = map[string]bool{
	"RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError":   true,
	"RunTestDeleteExpectedTransformOrDecodeError":                         true,
	"RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError": true,
	"RunTestGetListWithErrorAggregation":                                  true,
	"RunTestWatchWithUnsafeDelete":                                        true,
	"RunTestGetListWithoutErrorAggregation":                               false,
	"RunTestTransformationFailure":                                        false,
}

const (
	byAge    = "it waits for etcd to delete a key whose lease has expired; what has a time to live is volatile here and ages with its log, unannounced"
	nameless = "it stores an object without a name, which the API cannot, and the log files objects by name"
	equal    = "it wants a write of an equal object when the stored one was encrypted with an old key; nothing that changes nothing is appended to the log, which seals by itself"
)

// below is about tests that upstream runs on bare storage only.
const below = "it is about what the storage below the cache answers, which a cache does not pass on"

// inside is about tests that upstream runs, if at all, with its hands in the cache.
const inside = "it needs the cache's history cut short, which only a test inside its package can do"

var notBare = map[string]string{
	"RunTestCreateWithTTL":                                    byAge,
	"RunTestGuaranteedUpdateWithTTL":                          byAge,
	"RunTestKeySchema":                                        nameless,
	"RunTestGuaranteedUpdateChecksStoredData":                 equal,
	"RunTestOptionalWatchBookmarksWithCorrectResourceVersion": "bookmarks for clients are made by the watch cache",
}

var notCached = map[string]string{
	"RunTestDelayedWatchDelivery":    "it writes exactly as many pods as upstream's Cacher holds for a slow reader, and on a fake clock that is cut off at times",
	"RunTestCreateWithTTL":           byAge,
	"RunTestGuaranteedUpdateWithTTL": byAge,
	"RunTestKeySchema":               nameless,

	"RunTestListInconsistentContinuation":     inside,
	"RunTestWatchFromZero":                    inside,
	"RunTestGuaranteedUpdateChecksStoredData": equal,
	"RunWatchErrorIsBlockingFurtherEvents":    below,
	"RunTestWatchError":                       below,
	"RunTestWatchWithUnsafeDelete":            below,
	"RunTestWatchContextCancel":               below,
	"RunTestTransformationFailure":            below,
	"RunTestGetListWithErrorAggregation":      below,
	"RunTestGetListWithoutErrorAggregation":   below,
	"RunOptionalTestProgressNotify":           below,
}

// notObjects is about tests that are not run where a cache keeps no versions of itself.
var notObjects = func() map[string]string {
	not := maps.Clone(notCached)
	not["RunTestListResourceVersionMatch"] = "it compares the tokens of lists that the cache makes and the storage below, of pods without a namespace, which have another key in either"
	return not
}()
