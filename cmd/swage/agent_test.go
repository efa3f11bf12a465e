package main

import (
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"swage/runtime"
	"swage/schema"
)

// A second agent gives up before it touches what the first one uses.
func TestASecondAgentDoesNothing(t *testing.T) {
	dir := t.TempDir()
	node := schema.Node{Server: "lab", Source: schema.NodeSource{Path: dir}, Socket: filepath.Join(dir, "sock"), StateDir: filepath.Join(dir, "state")}
	first, err := net.Listen("unix", node.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	untouched := func(string, runtime.Scope) (runtime.Runtime, error) {
		t.Error("it opened the runtime")
		return nil, io.EOF
	}
	log := slog.New(slog.DiscardHandler)
	if err := serve(t.Context(), node, log, untouched); err == nil || !strings.Contains(err.Error(), "another agent answers") {
		t.Errorf("error %v", err)
	}
	if found, _ := filepath.Glob(node.StateDir); found != nil {
		t.Errorf("it wrote %s", found)
	}
	node.Socket = filepath.Join(dir, strings.Repeat("long", 30))
	if err := serve(t.Context(), node, log, untouched); err == nil || !strings.Contains(err.Error(), "107 at most") {
		t.Errorf("error %v", err)
	}
}
