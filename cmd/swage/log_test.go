package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestLogFormat(t *testing.T) {
	var b bytes.Buffer
	for format, ok := range map[string]func(string) bool{
		"text": func(s string) bool { return strings.Contains(s, `msg=request host=`) },
		"json": func(s string) bool { return json.Valid([]byte(s)) && strings.Contains(s, `"msg":"request","host":`) },
	} {
		b.Reset()
		log, err := newLog(&b, format)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("request", "host", "my-api.node.example.com")
		if !ok(b.String()) {
			t.Errorf("%s: %s", format, b.String())
		}
	}
	if _, err := newLog(&b, "xml"); err == nil || !strings.Contains(err.Error(), "xml") {
		t.Errorf("xml: %v", err)
	}
}
