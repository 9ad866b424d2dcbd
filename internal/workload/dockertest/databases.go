package dockertest

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/image"
)

// Databases is the name of the image that ImportDatabases makes.
const Databases = "snapd-databases:latest"

// ImportDatabases makes an image with PostgreSQL, MariaDB, Redis and a busybox
// from the programs that are installed on this host. Users are those of the
// host, so that what initdb and mariadb-install-db made here fits.
func (d *Docker) ImportDatabases(ctx context.Context) error {
	files, err := databaseFiles(ctx)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(writeRootfs(w, files)) }() // ends when the reader does
	out, err := d.API.ImageImport(ctx, image.ImportSource{Source: r, SourceName: "-"}, Databases, image.ImportOptions{})
	if err != nil {
		return errors.Join(fmt.Errorf("import image %s: %w", Databases, err), r.Close())
	}
	defer out.Close()
	_, err = io.Copy(io.Discard, out)
	return errors.Join(err, r.Close())
}

// PostgresBin is where this host's PostgreSQL has its programs.
func PostgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		return "", errors.New("PostgreSQL is not installed: install Debian's postgresql")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// databaseFiles are all files of the image, with the libraries they need.
func databaseFiles(ctx context.Context) ([]string, error) {
	bin, err := PostgresBin()
	if err != nil {
		return nil, err
	}
	programs := []string{"/usr/sbin/mariadbd", "/usr/bin/mariadb", "/usr/bin/redis-server", "/usr/bin/redis-cli", "/usr/bin/redis-check-aof", "/usr/bin/busybox"}
	for _, name := range []string{"postgres", "psql", "pg_amcheck", "pg_checksums", "pg_isready", "pgbench", "pg_ctl"} {
		programs = append(programs, filepath.Join(bin, name))
	}
	version := filepath.Base(filepath.Dir(bin))
	files := slices.Clone(programs)
	for _, dir := range []string{filepath.Join(filepath.Dir(bin), "lib"), "/usr/share/postgresql/" + version, "/usr/share/mysql/english", "/usr/share/mysql/charsets", "/usr/share/zoneinfo/Etc"} {
		below, err := filesBelow(dir)
		if err != nil {
			return nil, err
		}
		files = append(files, below...)
	}
	libraries, err := libraries(ctx, files)
	if err != nil {
		return nil, err
	}
	files = append(files, libraries...)
	slices.Sort(files)
	return slices.Compact(files), nil
}

// filesBelow leaves out what only the just-in-time compiler needs: it is
// larger than all the rest.
func filesBelow(dir string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && e.Name() == "bitcode":
			return filepath.SkipDir
		case !e.IsDir() && !strings.HasPrefix(e.Name(), "llvmjit"):
			out = append(out, path)
		}
		return nil
	})
	return out, err
}

// libraries asks the loader what the programs and shared objects need.
func libraries(ctx context.Context, files []string) ([]string, error) {
	args := slices.DeleteFunc(slices.Clone(files), func(f string) bool {
		info, err := os.Stat(f)
		return err != nil || info.Mode()&0o111 == 0 && !strings.HasSuffix(f, ".so") || filepath.Base(f) == "busybox"
	})
	out, err := exec.CommandContext(ctx, "ldd", args...).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "not a dynamic executable") {
		return nil, fmt.Errorf("ldd: %w: %s", err, out)
	}
	var found []string
	lines := bufio.NewScanner(strings.NewReader(string(out)))
	for lines.Scan() {
		for field := range strings.FieldsSeq(lines.Text()) {
			if strings.HasPrefix(field, "/") && !strings.HasSuffix(field, ":") {
				found = append(found, field)
			}
		}
	}
	return found, lines.Err()
}

func writeRootfs(to io.Writer, files []string) error {
	w := tar.NewWriter(to)
	for _, dir := range []string{"bin/", "tmp/", "run/", "run/postgresql/", "run/mysqld/", "var/", "etc/", "data/"} {
		if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o1777}); err != nil {
			return err
		}
	}
	for _, f := range append([]string{"/etc/passwd", "/etc/group"}, files...) {
		if err := copyInto(w, f); err != nil {
			return err
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: "var/run", Typeflag: tar.TypeSymlink, Linkname: "/run", Mode: 0o777}); err != nil {
		return err
	}
	for name, to := range shortcuts(files) {
		if err := w.WriteHeader(&tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: to, Mode: 0o777}); err != nil {
			return err
		}
	}
	return w.Close()
}

// shortcuts are the programs by the names under which commands call them.
func shortcuts(files []string) map[string]string {
	out := map[string]string{}
	for _, f := range files {
		if strings.Contains(f, "bin/") {
			out[filepath.Base(f)] = f
		}
	}
	for _, applet := range []string{"sh", "sleep", "dd", "cat", "date", "mkdir", "mv", "sync", "true", "false", "echo", "cp", "rm", "touch", "env", "ps", "kill", "timeout", "id", "test", "ls", "chown"} {
		out[applet] = "/usr/bin/busybox"
	}
	return out
}

// copyInto writes what a path leads to: links would need their targets.
func copyInto(w *tar.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(path, "/"), Typeflag: tar.TypeReg, Mode: int64(info.Mode().Perm()), Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}
