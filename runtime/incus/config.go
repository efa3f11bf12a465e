package incus

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/lxc/incus/v6/shared/api"
	"github.com/lxc/incus/v6/shared/units"

	"swage/runtime"
)

// device is one of an instance, as Incus has it.
type device = map[string]string

// noDevice stands where a device was: a PATCH takes none away.
var noDevice = device{"type": "none"}

// The devices that swage gives containers.
const (
	root    = "root"
	nic     = "eth0"
	ramdisk = "ramdisk"
)

// Incus's own schedule of snapshots. Earlier versions of swage used it; it is
// taken away now, since it treats what people take as its own.
const (
	incusSchedule = "snapshots.schedule"
	incusExpiry   = "snapshots.expiry"
	incusPattern  = "snapshots.pattern"
)

// config is what Incus keeps of a container, but for the mark, the network and
// the comment, which is the instance's description. An empty value takes a key
// away; see unset for the environment. What container reads of it is the same
// container.
func config(c runtime.Container) map[string]string {
	out := map[string]string{
		keyID: string(c.ID), keyProject: c.Project, keyName: c.Name,
		keyImage: c.Image, keyKit: yes(c.Kit), keyHost: hostName(c.Name),
		keyCommit: c.Commit, keyDeclared: c.Declared, keyReplaced: yes(c.Replaced), keyApplied: c.Applied, keyAsked: string(c.Asked),
		keyProtected: yes(c.Protected), keyNoAutostart: yes(!c.Autostart),
		keyColor: c.Color, keyKeys: strings.Join(c.Keys, "\n"),
		keyRealms: strings.Join(c.Realms, " "), keyDependsOn: strings.Join(c.DependsOn, " "),
		keyFirewall: list(c.Firewall), keyPublish: list(c.Publish),
		keySchedule: c.Snapshots.Cron, keyExpiry: number(int64(c.Snapshots.Days)), keyKeep: number(int64(c.Snapshots.Keep)),

		incusSchedule: "", incusExpiry: "", incusPattern: "",
		"limits.memory":    number(c.Resources.Memory),
		"limits.processes": processes(c.Resources.Processes),
		// Whether a container starts with the host is for the agent to say;
		// the daemon would start those that a user stopped as well.
		"boot.autostart": "false",
	}
	out[keyCPU], out["limits.cpu"], out["limits.cpu.allowance"] = cores(c.Resources.CPU)
	for k, v := range c.Env {
		out[envPrefix+k] = v // of an empty one raw.lxc tells; see guest
	}
	return out
}

// unset adds to a config the environment of an instance that is to go.
func unset(config, have map[string]string) map[string]string {
	for k := range have {
		if _, stays := config[k]; !stays && strings.HasPrefix(k, envPrefix) {
			config[k] = ""
		}
	}
	return config
}

// devices are those of a new container.
func devices(c runtime.Container, s runtime.Scope, eth0 device) map[string]device {
	out := map[string]device{
		root: {"type": "disk", "path": "/", "pool": s.StoragePool},
		nic:  eth0,
	}
	if c.Resources.Disk != 0 {
		out[root]["size"] = number(c.Resources.Disk)
	}
	if c.Ramdisk {
		out[ramdisk] = ramdiskDevice(s, c.ID)
	}
	return out
}

// container is an instance in normal form. A value that swage would not have
// written becomes one that is never wanted, so that it is put right.
func container(in *api.Instance) runtime.Container {
	config, disks := in.ExpandedConfig, in.ExpandedDevices
	if config == nil { // one that was not asked with its profiles
		config, disks = in.Config, in.Devices
	}
	c := runtime.Container{
		ID: runtime.ID(in.Config[keyID]), Project: in.Config[keyProject], Name: in.Config[keyName],
		Image: in.Config[keyImage], Kit: in.Config[keyKit] == "true",
		Status: status(in.StatusCode, halfMade(in.Config)),

		Keys:      split(in.Config[keyKeys], "\n"),
		Ramdisk:   disks[ramdisk]["type"] == "disk" && disks[ramdisk]["path"] == ramdiskPath,
		Autostart: in.Config[keyNoAutostart] != "true",
		Resources: runtime.Resources{
			CPU:    readCores(in.Config[keyCPU], config["limits.cpu"], config["limits.cpu.allowance"]),
			Memory: bytes(config["limits.memory"]), Disk: bytes(disks[root]["size"]),
			Processes: readProcesses(config["limits.processes"]),
		},
		Snapshots: runtime.Schedule{
			Cron: in.Config[keySchedule], Days: count(in.Config[keyExpiry]), Keep: count(in.Config[keyKeep]),
		},
		DependsOn: split(in.Config[keyDependsOn], " "),
		Color:     in.Config[keyColor],
		Comment:   in.Description,
		Realms:    split(in.Config[keyRealms], " "),

		Protected: in.Config[keyProtected] == "true",
		Asked:     runtime.Status(in.Config[keyAsked]),
		Commit:    in.Config[keyCommit],
		Declared:  in.Config[keyDeclared],
		Replaced:  in.Config[keyReplaced] == "true",
		Applied:   in.Config[keyApplied],
	}
	if halfMade(in.Config) || !begun(in.Config) { // its step was cut short
		c.Applied = ""
	}
	for _, key := range []string{incusSchedule, incusExpiry, incusPattern} {
		if in.Config[key] != "" {
			c.Snapshots.Cron = "by Incus"
		}
	}
	if json.Unmarshal([]byte(in.Config[keyFirewall]), &c.Firewall) != nil && in.Config[keyFirewall] != "" {
		c.Firewall = []runtime.Rule{{Action: "unreadable"}}
	}
	if json.Unmarshal([]byte(in.Config[keyPublish]), &c.Publish) != nil && in.Config[keyPublish] != "" {
		c.Publish = []runtime.Publish{{Protocol: "unreadable"}}
	}
	for k, v := range config {
		if name, ok := strings.CutPrefix(k, envPrefix); ok {
			c.Env = with(c.Env, name, v)
		}
	}
	for _, name := range emptyVariables(config[rawLXC]) {
		if _, set := c.Env[name]; !set {
			c.Env = with(c.Env, name, "")
		}
	}
	// A systemd that is frozen would read nothing.
	c.Unwritten = c.Status != runtime.Paused && unwritten(in.Config[keyEnvironment], c.Env)
	return c
}

func with(m map[string]string, k, v string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[k] = v
	return m
}

func status(code api.StatusCode, partial bool) runtime.Status {
	switch {
	case code == api.Running:
		return runtime.Running
	case code == api.Frozen:
		return runtime.Paused
	case code == api.Stopped && !partial:
		return runtime.Stopped
	}
	return runtime.Other
}

func yes(b bool) string {
	if b {
		return "true"
	}
	return ""
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func list[T any](l []T) string {
	if len(l) == 0 {
		return ""
	}
	b, err := json.Marshal(l)
	if err != nil {
		return err.Error() // of these types none has one
	}
	return string(b)
}

func split(s, by string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, by)
}

// bytes reads a size; people write them with units.
func bytes(s string) int64 {
	n, err := units.ParseByteSizeString(s)
	if err != nil {
		return -1
	}
	return n
}

func processes(n int) string {
	switch n {
	case 0:
		n = runtime.DefaultProcesses
	case runtime.NoLimit:
		n = 0
	}
	return number(int64(n))
}

func readProcesses(s string) int {
	switch n, err := strconv.Atoi(s); {
	case s == "":
		return runtime.NoLimit
	case err != nil || n <= 0:
		return runtime.NoLimit - 1 // nobody wants it
	case n == runtime.DefaultProcesses:
		return 0
	default:
		return n
	}
}

func count(s string) int {
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

func days(s string) int {
	n, plain := strings.CutSuffix(s, "d")
	if s != "" && !plain {
		return -1
	}
	return count(n)
}

// cores says a number of cores as Incus does. A whole number lets the
// container see as many; a part of one can only be a share of time, which
// Incus knows in milliseconds, so the number itself is kept beside it.
func cores(n float64) (own, limit, allowance string) {
	switch {
	case n == 0:
		return "", "", ""
	case n == math.Trunc(n):
		return "", strconv.FormatFloat(n, 'f', 0, 64), ""
	}
	const period = 100
	return strconv.FormatFloat(n, 'g', -1, 64), "", fmt.Sprintf("%dms/%dms", max(1, int64(math.Round(n*period))), period)
}

func readCores(own, limit, allowance string) float64 {
	for _, s := range []string{own, limit} {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			continue
		}
		if o, l, a := cores(n); o == own && l == limit && a == allowance {
			return n
		}
	}
	if own+limit+allowance == "" {
		return 0
	}
	return -1
}

// The lines of raw.lxc that describe what a container sees of itself; those
// of its network, and what others wrote, stand beside them.
const (
	rawLXC       = "raw.lxc"
	lineHost     = "lxc.uts.name"
	lineVariable = "lxc.environment"
)

// guest puts the lines of a container into what raw.lxc has.
func guest(c runtime.Container, have string) string {
	var out strings.Builder
	for line := range strings.Lines(have) {
		key, value := rawLine(line)
		if key == lineHost || key == lineVariable && strings.HasSuffix(value, "=") || key == "" {
			continue
		}
		out.WriteString(strings.TrimSpace(line) + "\n")
	}
	fmt.Fprintf(&out, "%s = %s\n", lineHost, hostName(c.Name))
	var empty []string // Incus has no empty values
	for k, v := range c.Env {
		if v == "" {
			empty = append(empty, k)
		}
	}
	slices.Sort(empty)
	for _, k := range empty {
		fmt.Fprintf(&out, "%s = %s=\n", lineVariable, k)
	}
	return out.String()
}

func emptyVariables(raw string) []string {
	var out []string
	for line := range strings.Lines(raw) {
		key, value := rawLine(line)
		if name, ok := strings.CutSuffix(value, "="); ok && key == lineVariable {
			out = append(out, name)
		}
	}
	return out
}

func rawLine(line string) (key, value string) {
	key, value, _ = strings.Cut(strings.TrimSpace(line), "=")
	return strings.TrimSpace(key), strings.TrimSpace(value)
}
