package gpufake

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Parse reads a fleet file, which messages call name. The error is about the first thing that is wrong and
// names its line and what to write instead.
func Parse(name string, data []byte) (Fleet, error) {
	r := &reader{name: name}
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) && syntax.GetToken() != nil && syntax.GetToken().Position != nil {
			return Fleet{}, fmt.Errorf("%s:%d: not valid YAML: %s", name, syntax.GetToken().Position.Line, syntax.GetMessage())
		}
		return Fleet{}, fmt.Errorf("%s:1: not valid YAML: %s", name, strings.TrimSpace(err.Error()))
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if body != nil && doc.Body != nil {
			r.fail(doc.Body, "a second document begins here: a file holds one fleet")
		}
		if body == nil {
			body = doc.Body
		}
	}
	if body == nil {
		return Fleet{}, fmt.Errorf("%s:1: the file describes no hosts: begin with `hosts:`", name)
	}
	fleet := r.fleet(body)
	if r.err != nil {
		return Fleet{}, r.err
	}
	return fleet, nil
}

// reader turns a YAML tree into a fleet. After the first error its results mean nothing.
type reader struct {
	name string
	err  error
}

// fail keeps the first error, with the line of the node.
func (r *reader) fail(n ast.Node, format string, args ...any) {
	if r.err != nil {
		return
	}
	line := 1
	if n != nil && n.GetToken() != nil && n.GetToken().Position != nil {
		line = n.GetToken().Position.Line
	}
	r.err = fmt.Errorf("%s:%d: %s", r.name, line, fmt.Sprintf(format, args...))
}

// mapping gives the values of a mapping by their keys, all of which have to be known.
func (r *reader) mapping(n ast.Node, what string, known ...string) map[string]ast.Node {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		r.fail(n, "%s is written as `key: value`, with the keys %s", what, strings.Join(known, ", "))
	}
	out := map[string]ast.Node{}
	for _, value := range values {
		key := ""
		if value.Key != nil && value.Key.GetToken() != nil {
			key = value.Key.GetToken().Value
		}
		switch {
		case !slices.Contains(known, key):
			r.fail(value.Key, "%s has no key %q: know %s", what, key, strings.Join(known, ", "))
		case out[key] != nil:
			r.fail(value.Key, "%s has %q twice: keep one of them", what, key)
		case value.Value == nil:
			r.fail(value.Key, "%s: %q has no value", what, key)
		default:
			out[key] = value.Value
		}
	}
	return out
}

// list gives the items of a list; none when it is left out.
func (r *reader) list(n ast.Node, what string) []ast.Node {
	if n == nil {
		return nil
	}
	sequence, ok := n.(*ast.SequenceNode)
	if !ok {
		r.fail(n, "%s is a list: begin each of its lines with `- `, or write it as [a, b]", what)
		return nil
	}
	return sequence.Values
}

// text gives one value as it is written; "" when it is left out.
func (r *reader) text(n ast.Node, what string) string {
	switch n := n.(type) {
	case nil:
		return ""
	case *ast.StringNode:
		return n.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value
	}
	r.fail(n, "%s is one word or number: write the value on the line of its key", what)
	return ""
}

func (r *reader) fleet(n ast.Node) Fleet {
	top := r.mapping(n, "a fleet", "hosts")
	items := r.list(top["hosts"], "hosts")
	if len(items) == 0 || len(items) > maxHosts {
		r.fail(n, "a fleet has 1 to %d hosts, not %d: list them under `hosts:`", maxHosts, len(items))
		return Fleet{}
	}
	var fleet Fleet
	names, ids := map[string]bool{}, map[string]string{}
	for _, item := range items {
		host := r.host(item)
		if r.err == nil && names[host.Name] {
			r.fail(item, "two hosts are named %s: give each its own name", host.Name)
		}
		names[host.Name] = true
		for _, device := range host.devices {
			if other := ids[device.UUID]; other != "" {
				r.fail(item, "hosts %s and %s have a device with UUID %s: UUIDs differ", other, host.Name, device.UUID)
			}
			ids[device.UUID] = host.Name
		}
		if r.err != nil {
			return Fleet{}
		}
		fleet.Hosts = append(fleet.Hosts, host)
	}
	return fleet
}

// word is what names of hosts, domains and devices are made of.
var word = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// defaultDriver is the version of a host that does not say it.
const defaultDriver = "580.95.05"

func (r *reader) host(n ast.Node) Host {
	keys := r.mapping(n, "a host", "name", "driver", "processor", "devices", "timeline")
	host := Host{Name: r.text(keys["name"], "name"), Driver: r.text(keys["driver"], "driver")}
	if !word.MatchString(host.Name) {
		r.fail(n, "%q is no name of a host: write `name:` with letters, digits, dots and dashes", host.Name)
	}
	if keys["processor"] != nil {
		memory, err := parseMemory(r.text(keys["processor"], "processor"))
		if err != nil {
			r.fail(keys["processor"], "processor: %v", err)
		}
		host.addProcessor(memory)
	}
	for _, item := range r.list(keys["devices"], "devices") {
		r.devices(&host, item)
		if r.err != nil {
			return host
		}
	}
	if host.slots() > 0 && keys["driver"] == nil {
		host.Driver = defaultDriver
	}
	if len(host.devices) == 0 && host.Driver != "" {
		r.fail(n, "host %s has a driver and no devices: list them under `devices:`, or leave the driver out", host.Name)
	}
	if host.slots() > 0 && host.Driver == "" {
		r.fail(n, "host %s has devices and no driver: leave `driver:` out for the default", host.Name)
	}
	r.timeline(&host, keys["timeline"])
	return host
}

func (r *reader) timeline(host *Host, n ast.Node) {
	for _, item := range r.list(n, "timeline") {
		line := r.text(item, "a line of the timeline")
		a, err := parseAct(line)
		switch {
		case err != nil:
			r.fail(item, "%v", err)
		case !a.timed:
			r.fail(item, "%q does not say when: begin with a time since the start, as in `30s %s`", line, line)
		default:
			if err := a.check(*host); err != nil {
				r.fail(item, "%v", err)
			}
		}
		if r.err != nil {
			return
		}
		host.timeline = append(host.timeline, a)
	}
}

// devices reads one entry, which may stand for several equal devices.
func (r *reader) devices(host *Host, n ast.Node) {
	keys := r.mapping(n, "a device", "model", "name", "memory", "count", "uuid", "domain", "mig")
	m := r.model(n, keys)
	count := 1
	if keys["count"] != nil {
		var err error
		if count, err = strconv.Atoi(r.text(keys["count"], "count")); err != nil || count < 1 {
			r.fail(keys["count"], "count: write how many devices there are, 1 or more")
		}
	}
	if count > maxDevices-host.slots() {
		r.fail(n, "host %s would have more than %d GPUs", host.Name, maxDevices)
	}
	id, domain := r.text(keys["uuid"], "uuid"), r.text(keys["domain"], "domain")
	switch {
	case keys["uuid"] != nil && (!word.MatchString(id) || !strings.HasPrefix(id, "GPU-")):
		r.fail(keys["uuid"], "uuid: %q is none: write GPU- and letters, digits and dashes", id)
	case id != "" && count > 1:
		r.fail(keys["uuid"], "uuid: %d devices cannot have one UUID: leave it out, or list them one by one", count)
	case keys["domain"] != nil && !word.MatchString(domain):
		r.fail(keys["domain"], "domain: %q is no name: write letters, digits, dots and dashes", domain)
	case domain != "" && m.lanes == 0:
		r.fail(keys["domain"], "domain: %s has no NVLink: leave the domain out", m.name)
	}
	parts := r.parts(keys["mig"], m)
	for range count {
		if r.err != nil {
			return
		}
		host.add(m, m.memory, id, domain, parts)
	}
	for i, device := range host.devices[:max(0, len(host.devices)-1)] {
		if slices.ContainsFunc(host.devices[i+1:], func(other deviceModel) bool { return other.UUID == device.UUID }) {
			r.fail(n, "two devices of host %s have the UUID %s: UUIDs differ", host.Name, device.UUID)
		}
	}
}

// model is a preset, or one of its own that has a name and memory.
func (r *reader) model(n ast.Node, keys map[string]ast.Node) model {
	preset, name, memory := r.text(keys["model"], "model"), r.text(keys["name"], "name"), r.text(keys["memory"], "memory")
	m, known := models[preset]
	switch {
	case keys["model"] != nil && !known:
		r.fail(keys["model"], "model: no preset is %q: write one of %s, or leave it out and give name and memory", preset, modelNames())
	case keys["model"] == nil && (name == "" || memory == ""):
		r.fail(n, "a device has a model, which is one of %s, or a name and memory", modelNames())
	case keys["model"] == nil:
		m = model{watts: 300, lanes: 18, mig: true, clock: 1.5e9, memoryHz: 2e9, generation: 5}
	}
	if name != "" {
		m.name = name
	}
	if keys["memory"] != nil {
		var err error
		if m.memory, err = parseMemory(memory); err != nil {
			r.fail(keys["memory"], "memory: %v", err)
		}
	}
	return m
}

// parts reads how a device is split.
func (r *reader) parts(n ast.Node, m model) []instance {
	var parts []instance
	var compute int
	var memory int64
	for _, item := range r.list(n, "mig") {
		part, err := parseProfile(r.text(item, "a MIG profile"))
		if err != nil {
			r.fail(item, "mig: %v", err)
		}
		parts, compute, memory = append(parts, part), compute+part.slices, memory+part.memory
		if compute > 7 || memory > m.memory {
			r.fail(item, "mig: the instances up to this one take %d slices and %d GB: a device has 7, and this one %d GB", compute, memory/1e9, m.memory/1e9)
			return nil
		}
	}
	if n != nil && len(parts) == 0 {
		r.fail(n, "mig: name the instances, as in [3g.40gb, 3g.40gb], or leave it out")
	}
	if n != nil && !m.mig {
		r.fail(n, "mig: %s cannot be split: leave it out", m.name)
	}
	return parts
}
