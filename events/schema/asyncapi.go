package schema

import (
	"regexp"
	"strings"

	"github.com/reprise-run/reprise/events"
)

// asyncAPI is the AsyncAPI 3.0 document: which messages are published on which
// NATS subjects.
func asyncAPI() object {
	channels, operations, messages := object{}, object{}, object{}
	for _, d := range described {
		if volatile(d) {
			continue
		}
		name := d.name()
		messages[name] = d.message()
		channels[name] = object{
			"address": d.address(), "title": d.typ, "description": d.doc(),
			"parameters": d.parameters(), "messages": object{name: object{"$ref": "#/components/messages/" + name}},
			"servers": []any{object{"$ref": "#/servers/log"}},
		}
		operations[name] = object{
			"action": "send", "title": d.typ, "channel": object{"$ref": "#/channels/" + name},
			"messages": []any{object{"$ref": "#/channels/" + name + "/messages/" + name}},
		}
	}
	return object{
		"asyncapi": "3.0.0", "id": "urn:reprise:log", "defaultContentType": "application/json",
		"info": object{
			"title": "Reprise", "version": "1",
			"description": "Every change of a cluster's desired and actual state, as events on NATS JetStream. " +
				"Read them with a durable consumer: `reprise integrator create` makes one, see docs/subscribe.md.",
			"license": object{"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
		},
		"servers": object{"log": object{
			"host": "127.0.0.1:4222", "protocol": "nats",
			"description": "The NATS server of the log, where `reprise up --nats-listen` says.",
		}},
		"channels": channels, "operations": operations,
		"components": object{"messages": messages, "schemas": object{"envelope": refTo("envelope.json")}},
	}
}

// volatile types are not in the history.
func volatile(d *description) bool { return d.rules[0].Effect == events.Puts }

var unfit = regexp.MustCompile(`[^a-zA-Z0-9]+`)

// name is a key of the document: letters, digits and underscores.
func (d *description) name() string {
	return unfit.ReplaceAllString(strings.TrimSuffix(strings.Replace(d.path(), "/", "__", 1), ".json"), "_")
}

// address is the NATS subject, with parameters where it varies.
func (d *description) address() string {
	_, fact, _ := strings.Cut(d.typ, ".")
	resource := "{group}.{resource}"
	if d.resource != "*" {
		plural, group, _ := strings.Cut(d.resource, ".")
		if group == "" {
			group = "core"
		}
		resource = strings.ReplaceAll(group, ".", "_") + "." + plural
	}
	return "reprise." + resource + ".{namespace}." + fact
}

func (d *description) parameters() object {
	p := object{"namespace": object{"description": "The object's namespace, - for an object that is in none."}}
	if d.resource == "*" {
		p["group"] = object{"description": "The object's API group with _ for each dot, core for the one without a name."}
		p["resource"] = object{"description": "The object's resource: the plural, in lower case."}
	}
	return p
}

func (d *description) message() object {
	m := object{
		"name": d.typ, "title": d.typ, "summary": d.doc(),
		"headers": object{"$ref": "#/components/schemas/envelope"},
		"payload": refTo(d.path()),
	}
	if e := d.rules[0].Effect; e == events.Changes || e == events.Removes {
		m["contentType"] = "application/json-patch+json"
	}
	return m
}

// refTo is a schema in another file.
func refTo(path string) object {
	return object{
		"schemaFormat": "application/schema+json;version=draft-2020-12",
		"schema":       object{"$ref": "./" + path},
	}
}
