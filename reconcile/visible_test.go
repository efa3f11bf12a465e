package reconcile_test

import (
	"strings"
	"testing"

	"swage/reconcile"
	"swage/runtime"
)

// A name of a file neither steers the terminal that a plan is shown on, nor ends
// its cell in a comment on a pull request.
func TestA4PlansShowNamesOfFiles(t *testing.T) {
	p := reconcile.Proposal{Servers: []reconcile.ServerProposal{{Server: "lab", Steps: []reconcile.ProposedStep{{
		Sign: "+", Step: "create container web/app", Effect: runtime.Live,
		AskedBy: []reconcile.Origin{{At: "projects/web/\x1b[8m\u202e` | [no changes](https://example.com)\n# x.cue:1:2"}},
	}}}}}
	if text := p.Text(true); strings.Contains(text, "\x1b[8m") || strings.Contains(text, "\u202e") {
		t.Errorf("text: %q", text)
	}
	text := p.Markdown()
	if strings.Contains(text, "[no changes](") && !strings.Contains(text, `\[no changes\](`) || strings.Contains(text, "\n# x") || !strings.Contains(text, "\\` \\|") || strings.Contains(text, "\x1b") {
		t.Errorf("Markdown: %q", text)
	}
}
