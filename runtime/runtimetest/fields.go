package runtimetest

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"swage/runtime"
)

// Field is something of a container that an update changes.
type Field struct {
	Name string // as in runtime.Container
	// Values are what a test gives it in turn, the first as it is when nothing
	// is asked for.
	Values []func(*runtime.Container)
}

// field is a Field of one that can be assigned.
func field[T any](name string, of func(*runtime.Container) *T, values ...T) Field {
	f := Field{Name: name}
	for _, v := range values {
		f.Values = append(f.Values, func(c *runtime.Container) { *of(c) = v })
	}
	return f
}

var (
	keyA = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1wMd0Cz9u6C0Zr0mWb3GkH6Q4v7hU0fVt3qQd1n1aA ann@example.com"
	keyB = `command="a \"b\" c" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM8m5V9gE0m3yqkGZf2y0L6l0yqXo4S8K7Qd8P0c2bBB`
)

// Fields are all that an update changes.
var Fields = []Field{
	field("Name", func(c *runtime.Container) *string { return &c.Name }, "web1", "Under_Score", strings.Repeat("x", 100)),
	field("Env", func(c *runtime.Container) *map[string]string { return &c.Env },
		nil,
		map[string]string{"GREETING": "hello", "PORT": "8080"},
		map[string]string{"GREETING": " =,\"' \\ $HOME é ", "EMPTY": ""},
		map[string]string{"LONG": strings.Repeat("0123456789abcdef", 2048)},
		map[string]string{"EMPTY": "no more", "NONE": "", "VOID": ""}),
	field("Keys", func(c *runtime.Container) *[]string { return &c.Keys }, nil, []string{keyA}, []string{keyB, keyA}, []string{keyB}),
	field("Ramdisk", func(c *runtime.Container) *bool { return &c.Ramdisk }, false, true),
	field("Autostart", func(c *runtime.Container) *bool { return &c.Autostart }, true, false),
	field("Resources.CPU", func(c *runtime.Container) *float64 { return &c.Resources.CPU }, 0, 1, 0.5, 1.5, 0.333, 2),
	field("Resources.Memory", func(c *runtime.Container) *int64 { return &c.Resources.Memory }, 0, 256<<20, 1<<30, 512<<20+4096),
	field("Resources.Processes", func(c *runtime.Container) *int { return &c.Resources.Processes }, 0, 512, runtime.NoLimit, 20000),
	field("Resources.Disk", func(c *runtime.Container) *int64 { return &c.Resources.Disk }, 0, 1<<30, 2<<30),
	field("Firewall", func(c *runtime.Container) *[]runtime.Rule { return &c.Firewall },
		nil,
		[]runtime.Rule{{Direction: "ingress", Action: "allow"}},
		[]runtime.Rule{
			{Direction: "egress", Action: "reject", Protocol: "tcp"},
			{
				Direction: "ingress", Action: "drop", Protocol: "udp",
				Sources:          []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32")},
				Destinations:     []netip.Prefix{netip.MustParsePrefix("198.18.0.7/32")},
				SourcePorts:      []runtime.Ports{{From: 1, To: 65535}},
				DestinationPorts: []runtime.Ports{{From: 53, To: 53}, {From: 8000, To: 8100}},
			},
		}),
	field("Publish", func(c *runtime.Container) *[]runtime.Publish { return &c.Publish },
		nil,
		[]runtime.Publish{{Listen: netip.MustParseAddrPort("[::]:2222"), Protocol: "tcp", Port: 22}},
		[]runtime.Publish{
			{Listen: netip.MustParseAddrPort("203.0.113.1:53"), Protocol: "udp", Port: 53},
			{Listen: netip.MustParseAddrPort("0.0.0.0:25"), Protocol: "tcp", Port: 2525},
		}),
	field("Snapshots", func(c *runtime.Container) *runtime.Schedule { return &c.Snapshots },
		runtime.Schedule{},
		runtime.Schedule{Cron: "@daily"},
		runtime.Schedule{Cron: "0 4 1 * *", Days: 30, Keep: 7},
		runtime.Schedule{Days: 3650}),
	field("DependsOn", func(c *runtime.Container) *[]string { return &c.DependsOn }, nil, []string{"db"}, []string{"cache", "db"}),
	field("Color", func(c *runtime.Container) *string { return &c.Color }, "", "e74c3c", "#fff"),
	field("Comment", func(c *runtime.Container) *string { return &c.Comment }, "", "two\nlines é ", strings.Repeat("c", 16_000)),
	field("Realms", func(c *runtime.Container) *[]string { return &c.Realms }, nil, []string{"0123456789abcdef01234567"}, []string{"0123456789abcdef01234567", "890abcdef12345678901cdef"}),
	field("Protected", func(c *runtime.Container) *bool { return &c.Protected }, false, true),
	field("Replaced", func(c *runtime.Container) *bool { return &c.Replaced }, false, true),
	field("Applied", func(c *runtime.Container) *string { return &c.Applied }, "", "a1", "a2"),
	field("Asked", func(c *runtime.Container) *runtime.Status { return &c.Asked }, runtime.Running, runtime.Stopped, runtime.Paused),
	field("Commit", func(c *runtime.Container) *string { return &c.Commit }, "", "c1", "c2"),
	field("Declared", func(c *runtime.Container) *string { return &c.Declared }, "", "c1", "c2"),
}

// fixed are the fields that no update changes, each with the test that holds
// it.
var fixed = map[string]func(*suite){
	"ID": (*suite).drawID, "Project": (*suite).move, "Image": (*suite).create, "Kit": (*suite).kit,
	"Status":    (*suite).stopStart,
	"Unwritten": (*suite).environmentWritten,
	"Asleep":    (*suite).nothing, // needs another start of the host: each engine has its own test
}

// CheckFields fails when a field of a container is in no test.
func CheckFields(t *testing.T) {
	covered := func(name string) bool {
		for _, f := range Fields {
			if f.Name == name {
				return true
			}
		}
		return fixed[name] != nil
	}
	for f := range fieldsOf(reflect.TypeFor[runtime.Container]()) {
		if covered(f) {
			continue
		}
		whole, _, part := strings.Cut(f, ".")
		if !part || !covered(whole) {
			t.Errorf("no test gives a container a %s: say in Fields which values it takes", f)
		}
	}
}

// fieldsOf names the fields of a type, those of Resources apart.
func fieldsOf(t reflect.Type) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Type != reflect.TypeFor[runtime.Resources]() {
				if !yield(f.Name) {
					return
				}
				continue
			}
			for part := range fieldsOf(f.Type) {
				if !yield(f.Name + "." + part) {
					return
				}
			}
		}
	}
}

// Plain is a container of which nothing is asked.
func Plain(image string, status runtime.Status) runtime.Container {
	c := runtime.Container{ID: runtime.NewID(), Project: "web", Image: image, Status: status}
	for _, f := range Fields {
		f.Values[0](&c)
	}
	c.Asked = status
	return c
}

// Full is a container with a value for every field.
func Full(image string, status runtime.Status) runtime.Container {
	c := Plain(image, status)
	for _, f := range Fields {
		if f.Name != "Asked" {
			f.Values[len(f.Values)-1](&c)
		}
	}
	c.Env = map[string]string{"GREETING": "hello", "EMPTY": ""}
	c.Snapshots = runtime.Schedule{Cron: "@daily", Days: 30, Keep: 7}
	return c
}
