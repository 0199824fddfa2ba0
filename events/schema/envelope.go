package schema

// header is one header of an event's message.
type header struct {
	name, doc string
	pattern   string
	required  bool
}

// headers are those of a CloudEvent in binary mode, as it goes over NATS. Over
// HTTP they bear the same names.
var headers = []header{
	{"ce-specversion", "The version of CloudEvents.", `^1\.0$`, true},
	{"ce-schema", "The version of this envelope; in a higher one a header may mean something else.", `^1$`, true},
	{"ce-id", "The event's sequence: its place in the log, from 1, without gaps. It is also the resourceVersion of the object after it.", `^[1-9][0-9]*$`, true},
	{"ce-type", "<noun>.<fact>, such as pod.bound; the noun is the object's kind in lower case.", `^[^. ]+\.[^. ]+$`, true},
	{"ce-source", "Who wrote it: /kind/name, such as /node/n1.", `^/[^/]+/[^/]*$`, true},
	{"ce-subject", "The object: resource.group/namespace/name, such as deployments.apps/shop/web, pods/shop/web-1 or nodes/n1.", `^[^/]+/[^/]+(/[^/]+)?$`, true},
	{"ce-time", "When the event was appended, to the millisecond. It never runs backwards.", instant, false},
	{"ce-sourceversion", "The version of the program that wrote it.", "", false},
	{"ce-uid", "The object's metadata.uid.", "", false},
	{"ce-user", "On whose request the API wrote it.", "", false},
	{"ce-audit", "The id of the API request that caused it.", "", false},
	{"ce-cause", "The sequence of the event that led to this one; without it the cause lies outside of the log.", `^[1-9][0-9]*$`, false},
	{"ce-basis", "The sequence of the state on which it was decided.", `^[1-9][0-9]*$`, false},
	{"ce-now", "The time that the decider was given.", instant, false},
	{"ce-asked", "What else the decider was given, as JSON: the work item, the refusals before, the volatile objects that it looked at; and a digest of all that it answered.", "", false},
	{"ce-optional", "A reader that does not know the type may skip the event; any other that it does not know it must not.", `^true$`, false},
	{"ce-more", "The next event belongs to the same decision.", `^true$`, false},
	{"ce-note", "What the decider has to say about its decision, as JSON: for pod.bound the candidates, refusals and scores.", "", false},
	{"ce-noteat", "A long note follows the data in the body, from this byte on; the data are the bytes before it.", `^[0-9]+$`, false},
	{"ce-chain", "The SHA-256 over the previous event's chain and this event.", `^[0-9a-f]{64}$`, false},
}

const instant = `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z$`

// envelope describes the headers of every event.
func envelope() object {
	properties := object{}
	var required []string
	for _, h := range headers {
		p := object{"type": "string", "description": h.doc}
		if h.pattern != "" {
			p["pattern"] = h.pattern
		}
		properties[h.name] = p
		if h.required {
			required = append(required, h.name)
		}
	}
	return object{
		"$schema": dialect, "$id": Base + "envelope.json", "title": "The envelope of an event",
		"description": "The headers of a CloudEvent 1.0 in binary mode. What is not printable ASCII, white space, double quotes and percent signs " +
			"are percent-encoded in their values. Headers are only ever added, so ignore those that you do not know.",
		"type": "object", "required": required, "properties": properties,
	}
}

// Headers are the names of the headers that the envelope may have.
func Headers() []string {
	var all []string
	for _, h := range headers {
		all = append(all, h.name)
	}
	return all
}
