package vmtest

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// CopyIn copies files and directories of this host into the guest's directory
// dir, which is made if it is missing, under their own names. Modes are kept;
// everything belongs to root.
func (g *Guest) CopyIn(ctx context.Context, dir string, paths ...string) error {
	reader, writer := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(writer, paths)
		_ = writer.CloseWithError(err)
		packed <- err
	}()
	var said collector
	line := fmt.Sprintf("mkdir -p %s && tar -x -C %[1]s --no-same-owner -f -", quote(dir))
	status, err := g.Stream(ctx, Command{Line: line, Stdin: reader, Stderr: &said})
	_ = reader.Close()
	if packing := <-packed; packing != nil && !errors.Is(packing, io.ErrClosedPipe) {
		return fmt.Errorf("copy into the guest: %w", packing)
	}
	if err == nil && status != 0 {
		err = fmt.Errorf("tar: exit status %d: %s", status, strings.TrimSpace(said.String()))
	}
	if err != nil {
		return fmt.Errorf("copy into the guest: %w", err)
	}
	return nil
}

// pack writes the paths as a tar archive.
func pack(w io.Writer, paths []string) error {
	archive := tar.NewWriter(w)
	for _, path := range paths {
		path, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		err = filepath.WalkDir(path, func(file string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name, err := filepath.Rel(filepath.Dir(path), file)
			if err != nil {
				return err
			}
			return packFile(archive, file, name)
		})
		if err != nil {
			return err
		}
	}
	return archive.Close()
}

func packFile(archive *tar.Writer, path, name string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name = name
	header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	_, err = io.Copy(archive, file)
	return err
}

// CopyOut copies a file or directory of the guest into the directory dir of
// this host, under its own name.
func (g *Guest) CopyOut(ctx context.Context, path, dir string) error {
	reader, writer := io.Pipe()
	unpacked := make(chan error, 1)
	go func() {
		err := unpack(reader, dir)
		_ = reader.CloseWithError(err)
		unpacked <- err
	}()
	var said collector
	line := fmt.Sprintf("tar -c -C \"$(dirname %s)\" -f - \"$(basename %[1]s)\"", quote(path))
	status, err := g.Stream(ctx, Command{Line: line, Stdout: writer, Stderr: &said})
	if err == nil && status != 0 {
		err = fmt.Errorf("tar: exit status %d: %s", status, strings.TrimSpace(said.String()))
	}
	_ = writer.CloseWithError(err) // nil: the end
	if err := errors.Join(<-unpacked, err); err != nil {
		return fmt.Errorf("copy %s out of the guest: %w", path, err)
	}
	return nil
}

// unpack writes files, directories and symbolic links; nothing outside dir.
func unpack(r io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			// What follows the end's mark is padding; the sender waits for it.
			_, err := io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(header.Name, "/")
		mode := header.FileInfo().Mode().Perm()
		switch header.Typeflag {
		case tar.TypeDir:
			if err := root.Mkdir(name, mode|0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		case tar.TypeSymlink:
			if err := root.Symlink(header.Linkname, name); err != nil {
				return err
			}
		case tar.TypeReg:
			if err := unpackFile(root, name, mode, archive); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s is neither file, directory nor symbolic link", header.Name)
		}
	}
}

func unpackFile(root *os.Root, name string, mode fs.FileMode, from io.Reader) error {
	file, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, from)
	return errors.Join(err, file.Close())
}

// quote makes one shell word of text.
func quote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
