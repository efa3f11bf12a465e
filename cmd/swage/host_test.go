package main

import (
	"slices"
	"strings"
	"testing"

	"swage/reconcile"
	"swage/schema"
)

// TestS9ProgramsOfTheNode [G8]: which program runs, with what arguments and in
// what environment, the node file says; a commit has its name.
func TestS9ProgramsOfTheNode(t *testing.T) {
	f := &front{programs: map[string]schema.NodeProgram{
		"dns-hook": {Command: []string{"/usr/local/bin/dns-hook", "--zone"}, Environment: map[string]schema.Secret{"TOKEN": schema.Plain("hunter22")}},
	}}
	edge := func(options map[string]string) reconcile.Edge {
		e := reconcile.Edge{TLS: schema.TLS{Type: "acme", Directory: "https://127.0.0.1:1/", DNSProvider: "exec", DNSOptions: map[string]schema.Secret{}}}
		for name, value := range options {
			e.TLS.DNSOptions[name] = schema.Plain(value)
		}
		return e
	}
	s, err := f.settings(edge(map[string]string{"program": "dns-hook", "wait": "1s"}))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Program.Command, []string{"/usr/local/bin/dns-hook", "--zone"}) || s.Program.Environment["TOKEN"] != "hunter22" || len(s.Options) != 1 {
		t.Errorf("%+v", s)
	}
	for _, name := range []string{"/bin/bash", "bash", "", "dns-hook2"} {
		_, err := f.settings(edge(map[string]string{"program": name}))
		if err == nil || !strings.Contains(err.Error(), "it names dns-hook") {
			t.Errorf("%q: %v", name, err)
		}
	}
	f.programs = nil
	if _, err := f.settings(edge(map[string]string{"program": "dns-hook"})); err == nil || !strings.Contains(err.Error(), `programs: "dns-hook": command: [`) {
		t.Errorf("a node file without programs: %v", err)
	}
}
