package schema

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestD7ExamplesOfPublishTakeNoPortOfTheAgent: who copies two examples of the
// reference gets two ports.
func TestD7ExamplesOfPublishTakeNoPortOfTheAgent(t *testing.T) {
	text, err := os.ReadFile("../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	ports := func(s string) (out []string) {
		for _, m := range regexp.MustCompile("\"[^\" ]*:([0-9]{1,5})\"").FindAllStringSubmatch(s, -1) {
			out = append(out, m[1])
		}
		return out
	}
	agents, published := map[string]string{"22": "sshd"}, map[string]bool{}
	chapter := ""
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "##") {
			chapter = strings.TrimSpace(strings.TrimLeft(line, "# "))
		}
		publish := chapter == "Publish" || strings.Contains(line, "| `publish` |")
		listens := strings.Contains(line, "| `listen` |") || strings.Contains(line, "| `http` |") || strings.Contains(line, "| `ssh` |") || strings.Contains(line, "listen: ")
		if _, example, ok := strings.Cut(line, "Example: "); ok { // else of what it may be
			line = example
		} else if publish {
			continue
		}
		for _, port := range ports(line) {
			if publish {
				published[port] = true
			} else if listens {
				agents[port] = line
			}
		}
	}
	if len(published) == 0 || agents["443"] == "" || agents["2222"] == "" {
		t.Fatalf("not found: published %v, the agent's %v", published, agents)
	}
	for port := range published {
		if agents[port] != "" {
			t.Errorf("port %s is published in one example and the agent's in another: %s", port, agents[port])
		}
	}
}
