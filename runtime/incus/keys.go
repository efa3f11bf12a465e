package incus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/pkg/sftp"

	"swage/runtime"
)

const keysFile = "/root/.ssh/authorized_keys"

// writeKeys makes root's authorized_keys in a container, stopped or running.
// The whole file is swage's from the first time that keys are asked for; an
// image's own stays until then. It comes before the key that Observe reads,
// so that a crash between the two repeats it.
func (r *Runtime) writeKeys(ctx context.Context, at place, keys []string) error {
	runtime.Phase(ctx, "writing keys")
	text := strings.Join(keys, "\n")
	if text != "" {
		text += "\n"
	}
	if err := r.replaceFile(ctx, at, keysFile, text); err != nil {
		return fmt.Errorf("write %s: %w", keysFile, err)
	}
	return nil
}

// replaceFile writes a file that root alone may read, in a folder that is
// root's alone. It is there as a whole or as it was, and whatever stood in its
// place, a link perhaps, is not written through.
func (r *Runtime) replaceFile(ctx context.Context, at place, name, text string) error {
	files, err := r.in(ctx, at.project).GetInstanceFileSFTP(at.name)
	if err != nil {
		return err
	}
	defer files.Close()
	defer context.AfterFunc(ctx, func() { files.Close() })()
	dir := path.Dir(name)
	if err := files.MkdirAll(dir); err != nil {
		return err
	}
	if err := errors.Join(files.Chown(dir, 0, 0), files.Chmod(dir, 0o700)); err != nil {
		return err
	}
	return swapFile(files, name, text, 0o600, 0, 0)
}

// swapFile makes or replaces a file inside a container. It is there as a whole or
// as it was, and whatever stood in its place is not written through.
func swapFile(files *sftp.Client, name, text string, mode os.FileMode, uid, gid int) error {
	half := name + ".swage"
	if err := files.Remove(half); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := files.OpenFile(half, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(text))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := errors.Join(files.Chown(half, uid, gid), files.Chmod(half, mode)); err != nil {
		return err
	}
	return files.PosixRename(half, name)
}
