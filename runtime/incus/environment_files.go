package incus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"time"

	"github.com/lxc/incus/v6/shared/api"
	"github.com/pkg/sftp"

	"swage/runtime"
)

// writeTime bounds the work on the files of one container: who is root in it may
// make any of them a pipe, or a disk that never answers.
const writeTime = 30 * time.Second

// giveEnvironment writes the environment of a container; what runs in it sees it
// in all that it starts from then on.
func (r *Runtime) giveEnvironment(ctx context.Context, at place, env map[string]string) error {
	if err := r.writeEnvironment(ctx, at, env); err != nil {
		return err
	}
	return r.reload(ctx, at)
}

// maxPAM is how much of /etc/environment is read.
const maxPAM = 1 << 20

// writeEnvironment makes the files inside a container, stopped or running, hold an
// environment; an empty one takes them away. Files for what the image does not
// have are not made, so an image without systemd, PAM or a shell stays as it is.
//
// Paths are resolved by Incus within the container's root, of which no link leads
// out. What stands in the place of a file, a link perhaps, is replaced and not
// written through.
//
// It comes before keyEnvironment, so that a crash between the two repeats it.
func (r *Runtime) writeEnvironment(ctx context.Context, at place, env map[string]string) error {
	runtime.Phase(ctx, "writing the environment")
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	files, err := r.in(ctx, at.project).GetInstanceFileSFTP(at.name)
	if err != nil {
		return err
	}
	defer files.Close()
	defer context.AfterFunc(ctx, func() { files.Close() })()
	for _, write := range []func(*sftp.Client, map[string]string) error{writeManager, writePAM, writeProfile} {
		if err := write(files, env); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("write the environment: %w", err)
		}
	}
	return nil
}

func writeManager(files *sftp.Client, env map[string]string) error {
	for _, dir := range []string{"/etc/systemd", "/usr/lib/systemd/system", "/lib/systemd/system"} {
		if isDir(files, dir) {
			if err := writeOwn(files, managerFile, managerText(env), 0o600); err != nil {
				return err
			}
			// Managers of users read it as those users.
			return writeOwn(files, userFile, userText(env), 0o644)
		}
	}
	return nil
}

func writeProfile(files *sftp.Client, env map[string]string) error {
	if !isDir(files, path.Dir(profileFile)) {
		return nil
	}
	return writeOwn(files, profileFile, profileText(env), 0o644)
}

// writeOwn makes or removes a file that is swage's alone.
func writeOwn(files *sftp.Client, name, text string, mode os.FileMode) error {
	if text == "" {
		info, err := files.Lstat(name)
		if err == nil && !info.IsDir() { // a folder is somebody else's
			err = files.Remove(name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	if err := files.MkdirAll(path.Dir(name)); err != nil {
		return fmt.Errorf("%s: %w", path.Dir(name), err)
	}
	return swapFile(files, name, text, mode, 0, 0)
}

// writePAM changes its own lines of /etc/environment, which keeps its owner and
// its mode. One that is a link becomes a file with what the link leads to.
func writePAM(files *sftp.Client, env map[string]string) error {
	if !isDir(files, path.Dir(pamFile)) {
		return nil
	}
	have, mode, uid, gid := "", fs.FileMode(0o644), 0, 0
	info, err := files.Stat(pamFile)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(env) == 0:
		return nil
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("%s: %w", pamFile, err)
	case len(env) == 0 && (!info.Mode().IsRegular() || info.Size() > maxPAM):
		return nil // it is not as swage left it, and must not keep a deletion from going on
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s inside the container is no regular file (%s); remove it there", pamFile, info.Mode().Type())
	case info.Size() > maxPAM:
		return fmt.Errorf("%s inside the container has %d bytes; swage adds its lines to at most %d", pamFile, info.Size(), maxPAM)
	default:
		mode = info.Mode().Perm()
		if stat, ok := info.Sys().(*sftp.FileStat); ok {
			uid, gid = int(stat.UID), int(stat.GID)
		}
		if have, err = readAll(files, pamFile); err != nil {
			return fmt.Errorf("%s: %w", pamFile, err)
		}
	}
	text := pamText(env, have)
	if text == have {
		return nil
	}
	return swapFile(files, pamFile, text, mode, uid, gid)
}

func readAll(files *sftp.Client, name string) (string, error) {
	f, err := files.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPAM+1))
	if err == nil && len(text) > maxPAM {
		err = fmt.Errorf("has more than %d bytes", maxPAM)
	}
	return string(text), err
}

// isDir follows links, within the container's root.
func isDir(files *sftp.Client, name string) bool {
	info, err := files.Stat(name)
	return err == nil && info.IsDir()
}

// reloadTime is how long systemd may take to read its configuration again, and
// reloadPause passes between two tries: at its start it does not answer yet.
const (
	reloadTime  = 10 * time.Second
	reloadPause = 200 * time.Millisecond
)

// reload has the systemd of a running container read its environment again, for
// the services that start from now on. Another init is left alone.
func (r *Runtime) reload(ctx context.Context, at place) error {
	if at.status != api.Running {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reloadTime)
	defer cancel()
	there, err := r.bootedBySystemd(ctx, at)
	if err != nil || !there {
		return err
	}
	for {
		code, err := r.run(ctx, at, "systemctl", "daemon-reload")
		if err == nil && code == 0 {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it ended with status %d", code)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("systemctl daemon-reload inside the container: %w", err)
		case <-time.After(reloadPause):
		}
	}
}

// bootedBySystemd is sd_booted(3).
func (r *Runtime) bootedBySystemd(ctx context.Context, at place) (bool, error) {
	files, err := r.in(ctx, at.project).GetInstanceFileSFTP(at.name)
	if err != nil {
		return false, err
	}
	defer files.Close()
	defer context.AfterFunc(ctx, func() { files.Close() })()
	return isDir(files, "/run/systemd/system"), nil
}

// run runs a program inside a container as root, without input, and gives its
// exit status. What it prints is lost.
func (r *Runtime) run(ctx context.Context, at place, command ...string) (int, error) {
	c := r.in(ctx, at.project)
	// The client's own call leaves a goroutine behind.
	path := api.NewURL().Path("1.0", "instances", at.name, "exec").Project(at.project).String()
	began, _, err := c.RawQuery(http.MethodPost, path, api.InstanceExecPost{Command: command}, "")
	if err != nil {
		return 0, err
	}
	op, err := began.MetadataAsOperation()
	if err != nil {
		return 0, err
	}
	op, err = waited(c, op.ID)
	if err != nil {
		return 0, err
	}
	code, ok := op.Metadata["return"].(float64)
	if !ok {
		return 0, errors.New("no exit status from Incus")
	}
	return int(code), nil
}
