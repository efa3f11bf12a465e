// Large writes a fleet of many containers, one file each, to measure with:
//
//	go run ./examples/large DIR [containers]
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "large:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	n := 5000
	if len(args) == 2 {
		var err error
		if n, err = strconv.Atoi(args[1]); err != nil {
			return err
		}
	} else if len(args) != 1 {
		return fmt.Errorf("usage: go run ./examples/large DIR [containers]")
	}
	for name, text := range fleet(n) {
		name = filepath.Join(args[0], name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// fleet is the files by name: twenty containers to a project, an alias for
// each, and permissions for each project.
func fleet(n int) map[string]string {
	files := map[string]string{
		"swage.cue":       "id:     \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"containers.localhost\"\n",
		"servers/one.cue": "listen: [\":443\"]\n",
		"servers/two.cue": "listen: [\":443\"]\n",
	}
	for i := range n {
		project := fmt.Sprintf("p%04d", i/20)
		if i%20 == 0 {
			files["projects/"+project+"/project.cue"] = fmt.Sprintf(projectFile, 1<<40+i)
		}
		server := []string{"one", "two"}[i%2]
		files[fmt.Sprintf("projects/%s/c%05d.cue", project, i)] = fmt.Sprintf(containerFile, i, 1<<50+i, server, i, i)
	}
	return files
}

const projectFile = `project: {id: "%024x", color: "#e74c3c", max_containers: 30}
permissions: {
	groups: office: {type: "ip", range: "203.0.113.0/24"}
	permissions: office: {http: "*", terminal: true}
}
`

const containerFile = `containers: "c%05d": {
	id:              "%024x"
	server:          "%s"
	container_image: "debian/13"
	comment:         "container %d of a large fleet"
	environment_vars: {
		NODE_ENV: "production"
		PORT:     "3000"
	}
	resources: {cpu: 2, memory: "2GiB"}
	health: {program: "http", port: 3000, path: "/healthz"}
}
aliases: "a%05[4]d": {container: "c%05[4]d", port: 3000}
`
