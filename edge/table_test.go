package edge

import (
	"net/netip"
	"strings"
	"testing"
)

// TestCompileRefuses: what is wrong with a Config, in the words of the error.
func TestCompileRefuses(t *testing.T) {
	document := func(c *Config, change func(*Permissions)) {
		change(c.Containers[2].Permissions)
	}
	rows := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no zone", func(c *Config) { c.Zone = "" }, "is not a lower-case DNS name"},
		{"zone in capitals", func(c *Config) { c.Zone = "Node.example.com" }, "is not a lower-case DNS name"},
		{"zone with a dot behind", func(c *Config) { c.Zone = zone + "." }, "is not a lower-case DNS name"},
		{"zone too long", func(c *Config) { c.Zone = strings.Repeat("abcdefgh.", 22) + "com" }, "is longer than 189"},
		{"short id", func(c *Config) { c.Containers[0].ID = "1" }, `id "1" is not 24`},
		{"id in capitals", func(c *Config) { c.Containers[0].ProjectID = strings.ToUpper(shop) }, "is not 24 lower-case"},
		{"id twice", func(c *Config) { c.Containers[1].ID = web }, `is also that of container "shop/web"`},
		{"id twice in two projects", func(c *Config) { c.Containers[2].ID = web }, `is also that of container "shop/web"`},
		{"alias twice", func(c *Config) { c.Aliases[1].Name = "my-api" }, `is also an alias of container "shop/web"`},
		{"alias of nothing", func(c *Config) { c.Aliases[0].Container = "shop/none" }, "there is no container"},
		{"name twice", func(c *Config) { c.Containers[1].Name = "shop/web" }, "the name is used twice"},
		{"an address before an id", func(c *Config) { c.Containers[0].ProjectID, c.Containers[0].ID = "", "" }, "is not 24"},
		{"alias in capitals", func(c *Config) { c.Aliases[0].Name = "My-API" }, "is not a lower-case DNS label"},
		{"alias with a dot", func(c *Config) { c.Aliases[0].Name = "a.b" }, "is not a lower-case DNS label"},
		{"alias without name", func(c *Config) { c.Aliases[0].Name = "" }, "is not a lower-case DNS label"},
		{"alias too long", func(c *Config) { c.Aliases[0].Name = strings.Repeat("z", 64) }, "is not a lower-case DNS label"},
		{"alias ends in a dash", func(c *Config) { c.Aliases[0].Name = "a-" }, "is not a lower-case DNS label"},
		{"alias like a host", func(c *Config) { c.Aliases[0].Name = shop + "-x" }, "looks like a container's own host"},
		{"alias of no program", func(c *Config) { c.Aliases[0].Program = "htpp" }, `no program "htpp"`},
		{"alias without port", func(c *Config) { c.Aliases[0].Port = 0 }, "port 0"},
		{"relative target path", func(c *Config) { c.Aliases[0].TargetPath = "app" }, "does not start with one slash"},
		{"target path with a host", func(c *Config) { c.Aliases[0].TargetPath = "//app" }, "does not start with one slash"},
		{"target path with a query", func(c *Config) { c.Aliases[0].TargetPath = "/a?b" }, "must be percent-encoded"},
		{"target path with a space", func(c *Config) { c.Aliases[0].TargetPath = "/a b" }, "must be percent-encoded"},
		{"target path climbs", func(c *Config) { c.Aliases[0].TargetPath = "/a/%2e./b" }, `a segment ".."`},
		{"target path cut off", func(c *Config) { c.Aliases[0].TargetPath = "/a%2" }, "incomplete percent-encoding"},
		{"target path misspelt", func(c *Config) { c.Aliases[0].TargetPath = "/a%zz" }, "invalid percent-encoding"},
		{"no such default", func(c *Config) { document(c, func(p *Permissions) { p.Default = NotFound }) }, "the default is"},
		{"cells of no group", func(c *Config) {
			document(c, func(p *Permissions) { p.Cells["ofice"] = map[string]Cell{"http": {All: true}} })
		}, `cells for "ofice", which is no group`},
		{"range with host bits", func(c *Config) {
			document(c, func(p *Permissions) { p.Groups["office"] = ranges("192.0.2.5/24") })
		}, "192.0.2.5/24 is not a canonical range"},
		{"IPv4 as IPv6", func(c *Config) {
			document(c, func(p *Permissions) { p.Groups["office"] = ranges("::ffff:192.0.2.0/120") })
		}, "is not a canonical range"},
		{"no range", func(c *Config) {
			document(c, func(p *Permissions) { p.Groups["office"] = Group{Ranges: make([]netip.Prefix, 1)} })
		}, "is not a canonical range"},
		{"port 0", func(c *Config) {
			document(c, func(p *Permissions) { p.Cells["office"]["http"] = ports(0, 80) })
		}, "0-80 is not a range of ports"},
		{"backward range", func(c *Config) {
			document(c, func(p *Permissions) { p.Cells["office"]["http"] = ports(81, 80) })
		}, "81-80 is not a range of ports"},
	}
	for _, row := range rows {
		c := fixture()
		row.change(&c)
		table, err := Compile(c)
		if table != nil || err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: error is %v, want one with %q", row.name, err, row.want)
		}
	}
}

// TestCompileReportsEverything: one run shows all that is wrong.
func TestCompileReportsEverything(t *testing.T) {
	c := fixture()
	c.Zone = "-"
	c.Containers[0].ProjectID = "?"
	c.Aliases[3].Port = 0
	c.Aliases[3].Program = ""
	_, err := Compile(c)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`zone "-"`, `container "shop/web"`, `alias "page"`, "port 0", `no program ""`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
}
