//go:build host

package hold_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"snapd/internal/point"
	"snapd/internal/workload/dockertest"
)

const postgresPassword = "it's \"secret\" $X"

// postgres is a server in a container: data and write-ahead log lie on two
// subvolumes.
type postgres struct {
	t  testing.TB
	id string
}

func (b *bench) postgresOn(name, data, wal string, env ...string) *postgres {
	b.t.Helper()
	p := &postgres{t: b.t, id: b.run(dockertest.Spec{
		Name: name, Image: dockertest.Databases, Change: dockertest.As("postgres", env...),
		Mounts: []dockertest.Mount{{Source: data, Target: "/data"}, {Source: wal, Target: "/wal"}},
		Cmd: []string{
			"postgres", "-D", "/data/pg", "-c", "listen_addresses=", "-c", "unix_socket_directories=/run/postgresql",
			"-c", "max_wal_size=64MB", "-c", "checkpoint_timeout=30s", "-c", "shared_buffers=2MB", "-c", "max_connections=20",
		},
	})}
	eventually(b.t, time.Minute, "PostgreSQL answers", func() bool { return p.command("psql", "-c", "SELECT 1").Run() == nil })
	return p
}

// newPostgres makes the tables of pgbench.
func (b *bench) newPostgres(env ...string) *postgres {
	b.t.Helper()
	bin, err := dockertest.PostgresBin()
	if err != nil {
		b.t.Fatal(err)
	}
	made := filepath.Join(scratch, "postgres")
	if _, err := os.Stat(made); err != nil {
		command(b.t, "install", "-d", "-o", "postgres", made)
		password := filepath.Join(scratch, "password")
		if err := os.WriteFile(password, []byte(postgresPassword+"\n"), 0o644); err != nil {
			b.t.Fatal(err)
		}
		command(b.t, "setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", filepath.Join(bin, "initdb"),
			"--pgdata="+made+"/pg", "--waldir="+made+"/wal", "--locale=C", "--encoding=UTF8", "--data-checksums", "--no-sync",
			"--username=postgres", "--pwfile="+password, "--auth-local=scram-sha-256")
	}
	data, wal := b.subvolume("pg data", "postgres"), b.subvolume("pg wal", "postgres")
	command(b.t, "cp", "-a", made+"/pg", data)
	command(b.t, "cp", "-a", made+"/wal", wal)
	// In the container the log lies at /wal.
	command(b.t, "ln", "-sfn", "/wal/wal", filepath.Join(data, "pg", "pg_wal"))
	if env == nil {
		env = []string{"POSTGRES_PASSWORD=" + postgresPassword}
	}
	p := b.postgresOn("pg", data, wal, env...)
	p.must("psql", "-c", "CREATE EXTENSION amcheck")
	p.must("pgbench", "--initialize", "--quiet", "--scale=2")
	b.Group = "pg"
	b.Config = "[group.pg]\ncontainers = [\"pg\"]\n[group.pg.container.pg]\nquiesce = \"postgres\"\n"
	return p
}

// command runs a client of this host on the server's socket.
func (p *postgres) command(program string, args ...string) *exec.Cmd {
	p.t.Helper()
	bin, err := dockertest.PostgresBin()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.CommandContext(p.t.Context(), filepath.Join(bin, program), args...)
	cmd.Env = []string{
		"PGHOST=" + inside(p.t, p.id, "/run/postgresql"), "PGUSER=postgres", "PGDATABASE=postgres",
		"PGPASSWORD=" + postgresPassword, "PGCONNECT_TIMEOUT=5",
	}
	return cmd
}

func (p *postgres) must(program string, args ...string) string {
	p.t.Helper()
	out, err := p.command(program, args...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (p *postgres) sql(query string) string {
	p.t.Helper()
	return p.must("psql", "--no-psqlrc", "--tuples-only", "--no-align", "-c", query)
}

// load runs pgbench until stop is called.
func (p *postgres) load() (stop func()) {
	p.t.Helper()
	cmd := p.command("pgbench", "--client=4", "--jobs=1", "--time=36000", "--no-vacuum")
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	p.t.Cleanup(stop)
	eventually(p.t, 20*time.Second, "pgbench runs", func() bool { return p.rows() > 50 })
	return stop
}

func (p *postgres) rows() int {
	p.t.Helper()
	n, err := strconv.Atoi(p.sql("SELECT COUNT(*) FROM pgbench_history"))
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// checkPostgres starts a server on a restored copy and says what is wrong.
// least: how many transactions had been confirmed.
func (b *bench) checkPostgres(name, dir string, least int) error {
	b.t.Helper()
	id, err := docker.Run(b.t.Context(), dockertest.Spec{
		Name: name, Image: dockertest.Databases, Change: dockertest.As("postgres"),
		Mounts: []dockertest.Mount{{Source: filepath.Join(dir, "pg data"), Target: "/data"}, {Source: filepath.Join(dir, "pg wal"), Target: "/wal"}},
		Cmd:    []string{"sh", "-c", "rm -f /data/pg/postmaster.pid; exec postgres -D /data/pg -c listen_addresses= -c unix_socket_directories=/run/postgresql 2>/data/log"},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	defer b.remove(id)
	p := &postgres{t: b.t, id: id}
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		in, err := docker.API.ContainerInspect(b.t.Context(), id)
		if err != nil {
			b.t.Fatal(err)
		}
		said, _ := os.ReadFile(filepath.Join(dir, "pg data", "log"))
		if !in.State.Running {
			return fmt.Errorf("it does not start: %s", said)
		}
		if p.command("psql", "-c", "SELECT 1").Run() == nil {
			break
		}
		if time.Since(begin) > time.Minute {
			return fmt.Errorf("it does not answer: %s", said)
		}
	}
	if out, err := p.command("pg_amcheck", "--heapallindexed", "--parent-check", "--all").CombinedOutput(); err != nil {
		return fmt.Errorf("pg_amcheck: %w: %s", err, out)
	}
	const sums = `SELECT (SELECT SUM(abalance) FROM pgbench_accounts), (SELECT SUM(bbalance) FROM pgbench_branches),
		(SELECT SUM(tbalance) FROM pgbench_tellers), (SELECT COALESCE(SUM(delta), 0) FROM pgbench_history), (SELECT COUNT(*) FROM pgbench_history)`
	out, err := p.command("psql", "--no-psqlrc", "--tuples-only", "--no-align", "-c", sums).CombinedOutput()
	if err != nil {
		return fmt.Errorf("read the sums: %w: %s", err, out)
	}
	f := strings.Split(strings.TrimSpace(string(out)), "|")
	rows, _ := strconv.Atoi(f[4])
	if len(slices.Compact(f[:4])) != 1 || rows < least {
		return fmt.Errorf("sums of accounts, branches, tellers, history, and rows: %s; %d rows were there", out, least)
	}
	return nil
}

func TestPostgresMakesACheckpoint(t *testing.T) {
	b := newBench(t)
	p := b.newPostgres()
	stop := p.load()
	requested := func() string { return p.sql("SELECT checkpoints_req FROM pg_stat_bgwriter") }
	before := requested()
	got := b.take()
	stop()
	eventually(t, 10*time.Second, "the server counts the checkpoint", func() bool { return requested() != before })
	if got.Consistency != point.Quiesced || len(got.Quiesced) != 1 || got.Quiesced[0].By != "postgres" || got.HeldUS != 0 || !strings.Contains(got.Why, "checkpoint") {
		t.Errorf("%s, %+v, held %d, why %s", got.Consistency, got.Quiesced, got.HeldUS, got.Why)
	}
}

// TestACheckpointThatFails is a warning, and the point is as good as frozen.
func TestACheckpointThatFails(t *testing.T) {
	b := newBench(t)
	b.newPostgres("POSTGRES_PASSWORD=wrong")
	got := b.take()
	if got.Consistency != point.Frozen || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "password authentication failed") {
		t.Errorf("%s, %q", got.Consistency, got.Warnings)
	}
}
