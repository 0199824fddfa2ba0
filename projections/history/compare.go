package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Line is one difference between two versions of an object, at the deepest place
// where a person would look for it.
type Line struct {
	// Path is the place: spec.template.spec.containers[web].image. An element of a
	// list is named by what tells it from the others (its name, its type), where
	// there is such a thing, else by its number.
	Path string `json:"path"`
	// Before and After are what was and is there, nil for nothing.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
	// Bookkeeping marks what tells a reader nothing: generations, managed fields,
	// the times of conditions.
	Bookkeeping bool `json:"bookkeeping,omitempty"`
}

// Compare says how one version of an object differs from another. There is no
// line exactly if they are equal.
func Compare(before, after []byte) ([]Line, error) {
	if bytes.Equal(before, after) {
		return nil, nil
	}
	b, err := decode(before)
	if err != nil {
		return nil, err
	}
	a, err := decode(after)
	if err != nil {
		return nil, err
	}
	var c comparison
	c.values(place{}, b, a)
	return c.lines, nil
}

func decode(doc []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("the object cannot be read: %w", err)
	}
	return v, nil
}

// nothing stands for a value that is not there; nil is JSON's null.
type nothing struct{}

// comparison gathers the lines.
type comparison struct{ lines []Line }

func (c *comparison) add(at place, before, after any) {
	c.lines = append(c.lines, Line{
		Path: at.path, Before: encode(before), After: encode(after), Bookkeeping: at.bookkeeping || onlyBookkeeping(at, before, after),
	})
}

func encode(v any) json.RawMessage {
	if v == (nothing{}) {
		return nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("what was decoded cannot be encoded: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func (c *comparison) values(at place, before, after any) {
	b, wasObject := before.(map[string]any)
	a, isObject := after.(map[string]any)
	if wasObject && isObject && !at.whole() {
		c.objects(at, b, a)
		return
	}
	if (isObject && before == nothing{} && at.spread(a)) || (wasObject && after == nothing{} && at.spread(b)) {
		c.objects(at, b, a)
		return
	}
	bl, wasList := before.([]any)
	al, isList := after.([]any)
	if (wasList && isList) || (wasList && after == nothing{}) || (isList && before == nothing{}) {
		c.lists(at, bl, al, before, after)
		return
	}
	if !equal(before, after) {
		c.add(at, before, after)
	}
}

func (c *comparison) objects(at place, before, after map[string]any) {
	names := slices.Collect(maps.Keys(before))
	for name := range after {
		if _, both := before[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		c.values(at.member(name), member(before, name), member(after, name))
	}
}

func member(object map[string]any, name string) any {
	if v, ok := object[name]; ok {
		return v
	}
	return nothing{}
}

// lists compares lists element by element if the elements can be told apart, or
// are objects; others as a whole.
func (c *comparison) lists(at place, b, a []any, before, after any) {
	if equal(before, after) {
		return
	}
	if len(b)+len(a) == 0 || !objects(b) || !objects(a) {
		c.add(at, before, after)
		return
	}
	if key := keyOf(b, a); key != "" {
		c.keyed(at, key, b, a)
		return
	}
	for i := range max(len(b), len(a)) {
		c.values(at.element(strconv.Itoa(i)), nth(b, i), nth(a, i))
	}
}

func nth(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return nothing{}
}

func objects(list []any) bool {
	return !slices.ContainsFunc(list, func(v any) bool { _, ok := v.(map[string]any); return !ok })
}

// keyed compares lists whose elements have a key: those that stayed in the order
// that they have now, with what came; then what went; then, if those that stayed
// have changed places, the order.
func (c *comparison) keyed(at place, key string, b, a []any) {
	befores, afters := byKey(b, key), byKey(a, key)
	var stayed, stay []string
	for _, e := range a {
		k := keyText(e, key)
		was, ok := befores[k]
		if !ok {
			was = nothing{}
		} else {
			stay = append(stay, k)
		}
		c.values(at.element(k), was, e)
	}
	for _, e := range b {
		if k := keyText(e, key); afters[k] == nil {
			c.values(at.element(k), e, nothing{})
		} else {
			stayed = append(stayed, k)
		}
	}
	if !slices.Equal(stayed, stay) {
		c.add(place{path: at.path + " order", bookkeeping: at.bookkeeping}, stayed, stay)
	}
}

func byKey(list []any, key string) map[string]any {
	all := make(map[string]any, len(list))
	for _, e := range list {
		all[keyText(e, key)] = e
	}
	return all
}

// keys are the members by which the elements of Kubernetes' lists are told apart.
var keys = []string{"name", "type", "mountPath", "devicePath", "containerPort", "port", "ip", "key", "topologyKey", "uid"}

// keyOf finds a member that all elements have, and each another. Lists of which
// one is empty have one if the other does.
func keyOf(lists ...[]any) string {
	for _, key := range keys {
		if !slices.ContainsFunc(lists, func(list []any) bool { return !tellsApart(key, list) }) {
			return key
		}
	}
	return ""
}

func tellsApart(key string, list []any) bool {
	seen := make(map[string]bool, len(list))
	for _, e := range list {
		k := keyText(e, key)
		if k == "" || seen[k] {
			return false
		}
		seen[k] = true
	}
	return true
}

// keyText is what an element's key says, empty if it has none.
func keyText(element any, key string) string {
	object, _ := element.(map[string]any)
	switch v := object[key].(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, equal)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equal)
	}
	switch b.(type) {
	case map[string]any, []any:
		return false
	}
	return a == b
}

// place is where in an object a comparison is.
type place struct {
	path string
	// names are the members on the way, without the elements of lists.
	names       []string
	inList      bool // it is an element
	bookkeeping bool
}

var plain = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

func (p place) member(name string) place {
	path := p.path + "." + name
	if !plain.MatchString(name) {
		path = p.path + "[" + strconv.Quote(name) + "]"
	}
	return place{
		path: strings.TrimPrefix(path, "."), names: append(slices.Clip(p.names), name),
		bookkeeping: p.bookkeeping || bookkeeping(append(slices.Clip(p.names), name)),
	}
}

func (p place) element(key string) place {
	p.path, p.inList = p.path+"["+key+"]", true
	return p
}

func (p place) last() string {
	if len(p.names) == 0 {
		return ""
	}
	return p.names[len(p.names)-1]
}

// applied is where kubectl apply keeps what was applied.
const applied = "kubectl.kubernetes.io/last-applied-configuration"

// bookkeeping says whether what is at this place tells a reader nothing.
func bookkeeping(names []string) bool {
	if len(names) == 2 && names[0] == "metadata" {
		return slices.Contains([]string{"managedFields", "generation", "resourceVersion"}, names[1])
	}
	return names[len(names)-1] == "observedGeneration" || (len(names) == 3 && names[2] == applied)
}

// whole says whether an object here is compared as one: its members say little
// without each other.
func (p place) whole() bool { return p.condition() || p.containerState() }

// spread says whether an object that came or went here is told by its members, as
// labels are.
func (p place) spread(object map[string]any) bool {
	if len(object) == 0 || p.inList || p.whole() {
		return false
	}
	for _, v := range object {
		switch v.(type) {
		case map[string]any, []any:
			return false
		}
	}
	return true
}

func (p place) condition() bool { return p.inList && p.last() == "conditions" }

func (p place) containerState() bool {
	n := len(p.names)
	return n >= 2 && strings.HasSuffix(p.names[n-2], "ontainerStatuses") && (p.names[n-1] == "state" || p.names[n-1] == "lastState")
}

// conditionTimes are members of conditions that tell a reader nothing.
var conditionTimes = []string{"lastTransitionTime", "lastUpdateTime", "lastProbeTime", "lastHeartbeatTime", "observedGeneration"}

// onlyBookkeeping says whether two versions of a condition differ in their times
// alone.
func onlyBookkeeping(at place, before, after any) bool {
	b, ok := before.(map[string]any)
	a, is := after.(map[string]any)
	if !ok || !is || !at.condition() {
		return false
	}
	b, a = maps.Clone(b), maps.Clone(a)
	for _, name := range conditionTimes {
		delete(b, name)
		delete(a, name)
	}
	return equal(b, a)
}
