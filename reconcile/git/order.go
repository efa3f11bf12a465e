package git

import (
	"errors"
	"strings"
)

// order is the git service that a command asks for over SSH:
//
//	git-upload-pack '/fleet'
//
// as git writes it, or without quotes; the repository has the names that it has
// over HTTPS. Nothing of the command reaches a shell, nor git.
func order(command string) (service string, err error) {
	name, repository, ok := strings.Cut(command, " ")
	service, git := strings.CutPrefix(name, "git-")
	switch {
	case !git:
		return "", errors.New(onlyGit)
	case service == "upload-archive":
		return "", errors.New("git archive is not served: clone the repository")
	case service != "upload-pack" && service != "receive-pack":
		return "", errors.New(onlyGit)
	case ok && strings.HasPrefix(repository, "'"):
		repository, ok = strings.CutSuffix(repository[1:], "'")
	}
	switch strings.TrimPrefix(repository, "/") {
	case "fleet", "fleet.git":
		if ok {
			return service, nil
		}
	}
	return "", errors.New("the repository is at /fleet")
}

// onlyGit is told to whoever wants something else.
const onlyGit = "only git is served here: git clone ssh://git@<host>:<port>/fleet"
