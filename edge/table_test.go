package edge

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestCompileRefuses: what is wrong with a Config, in the words of the error.
func TestCompileRefuses(t *testing.T) {
	document := func(c *Config, change func(*Permissions)) {
		change(c.Containers[2].Permissions)
	}
	programs := func(c *Config, change func([]Program)) {
		mine := slices.Clone(kit.Programs)
		change(mine)
		c.Containers[0].Catalogue = &Catalogue{mine}
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
		{"alias twice", func(c *Config) { c.Aliases[1].Name = "my-api" }, "the name is used twice"},
		{"alias of nothing", func(c *Config) { c.Aliases[0].Container = "shop/none" }, "there is no container"},
		{"name twice", func(c *Config) { c.Containers[1].Name = "shop/web" }, "the name is used twice"},
		{"an address before an id", func(c *Config) { c.Containers[0].ProjectID, c.Containers[0].ID = "", "" }, "is not 24"},
		{"alias in capitals", func(c *Config) { c.Aliases[0].Name = "My-API" }, "is not a lower-case DNS label"},
		{"alias with a dot", func(c *Config) { c.Aliases[0].Name = "a.b" }, "is not a lower-case DNS label"},
		{"alias without name", func(c *Config) { c.Aliases[0].Name = "" }, "is not a lower-case DNS label"},
		{"alias too long", func(c *Config) { c.Aliases[0].Name = strings.Repeat("z", 64) }, "is not a lower-case DNS label"},
		{"alias ends in a dash", func(c *Config) { c.Aliases[0].Name = "a-" }, "is not a lower-case DNS label"},
		{"alias like a host", func(c *Config) { c.Aliases[0].Name = shop + "-x" }, "looks like a container's own host"},
		{"alias without a program", func(c *Config) { c.Aliases[0].Program = "" }, "a target without a program"},
		{"alias of an instance below 0", func(c *Config) { c.Aliases[0].Index = -1 }, "there is no instance -1"},
		{"alias that is reserved", func(c *Config) { c.Aliases[0].Name = "git" }, "the name is reserved"},
		{"path without a slash", func(c *Config) { c.Aliases[0].Paths = []AliasPath{{Path: "api"}} }, "does not start with one slash"},
		{"path with a slash behind", func(c *Config) { c.Aliases[0].Paths = []AliasPath{{Path: "/api/"}} }, "ends in a slash"},
		{"path twice", func(c *Config) { c.Aliases[0].Paths = []AliasPath{{Path: "/api"}, {Path: "/"}, {Path: "/api"}} }, `path "/api" is there twice`},
		{"path to nothing known", func(c *Config) {
			c.Aliases[0].Paths = []AliasPath{{Path: "/api", Target: to("shop/none", "http", 80)}}
		}, `no container "shop/none"`},
		{"domain of one label", func(c *Config) { c.Aliases[0].Domains = []string{"localhost"} }, "is not a lower-case DNS name"},
		{"domain in capitals", func(c *Config) { c.Aliases[0].Domains = []string{"Shop.example"} }, "is not a lower-case DNS name"},
		{"domain with a dot behind", func(c *Config) { c.Aliases[0].Domains = []string{"shop.example."} }, "is not a lower-case DNS name"},
		{"domain not in its A-label form", func(c *Config) { c.Aliases[0].Domains = []string{"bücher.example"} }, "is not a lower-case DNS name"},
		{"domain in the zone", func(c *Config) { c.Aliases[0].Domains = []string{"a.b." + zone} }, "lies in the zone"},
		{"domain twice", func(c *Config) {
			c.Aliases[0].Domains, c.Aliases[1].Domains = []string{"shop.example"}, []string{"shop.example"}
		}, `"shop.example" is used twice`},
		{"program without port", func(c *Config) { programs(c, func(p []Program) { p[0].Port = 0 }) }, "port 0"},
		{"program without instances", func(c *Config) { programs(c, func(p []Program) { p[0].Instances = 0 }) }, "0 instances"},
		{"instances past the last port", func(c *Config) { programs(c, func(p []Program) { p[4].Instances = 5537 }) }, "5537 instances from port 60000"},
		{"program called http", func(c *Config) { programs(c, func(p []Program) { p[0].Name = "http" }) }, "is not for programs of the kit"},
		{"program with a dash", func(c *Config) { programs(c, func(p []Program) { p[0].Name = "a-b" }) }, "is not of lower-case letters and digits"},
		{"program twice", func(c *Config) { programs(c, func(p []Program) { p[0].Names = []string{"notify"} }) }, `is that of program "terminal"`},
		{"ports that overlap", func(c *Config) { programs(c, func(p []Program) { p[3].InstanceBase = 3971 }) }, "overlap at port"},
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
	c.Aliases[3].Index = 1 << 16
	c.Aliases[4].Program = ""
	_, err := Compile(c)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`zone "-"`, `container "shop/web"`, `alias "page"`, "no instance 65536", "without a program"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
}
