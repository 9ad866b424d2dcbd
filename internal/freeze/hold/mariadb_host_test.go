//go:build host

package hold_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"snapd/internal/workload/dockertest"
)

const mariaPassword = "it's \"secret\" $X"

// maria is a MariaDB server in a container: data and redo log lie on two
// subvolumes, so that a point of it takes two snapshots.
type maria struct {
	t  testing.TB
	id string
}

// mariaOn runs a server on two directories. Its root needs a password only
// where it was set.
func (b *bench) mariaOn(name, data, log string) *maria {
	b.t.Helper()
	env := b.mariaEnv
	if env == nil {
		env = []string{"MARIADB_ROOT_PASSWORD=" + mariaPassword}
	}
	m := &maria{t: b.t, id: b.run(dockertest.Spec{
		Name: name, Image: dockertest.Databases, Change: dockertest.As("mysql", env...),
		Mounts: []dockertest.Mount{{Source: data, Target: "/var/lib/mysql"}, {Source: log, Target: "/var/lib/mysql-log"}},
		Cmd: []string{
			"mariadbd", "--no-defaults", "--datadir=/var/lib/mysql", "--innodb-log-group-home-dir=/var/lib/mysql-log",
			"--socket=/run/mysqld/mysqld.sock", "--skip-networking", "--lc-messages-dir=/usr/share/mysql",
			"--innodb-buffer-pool-size=32M", "--aria-pagecache-buffer-size=8M", "--key-buffer-size=8M",
		},
	})}
	eventually(b.t, time.Minute, "MariaDB answers", func() bool { _, err := m.try("SELECT 1"); return err == nil })
	return m
}

// newMaria makes a database of InnoDB, MyISAM and Aria tables.
func (b *bench) newMaria() *maria {
	b.t.Helper()
	data, log := b.subvolume("maria data", "mysql"), b.subvolume("maria log", "mysql")
	// mariadb-install-db takes no names with spaces.
	made := filepath.Join(scratch, "maria")
	if _, err := os.Stat(made); err != nil {
		command(b.t, "install", "-d", "-o", "mysql", made, made+"/data", made+"/log")
		command(b.t, "mariadb-install-db", "--no-defaults", "--user=mysql", "--datadir="+made+"/data", "--innodb-log-group-home-dir="+made+"/log",
			"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
	}
	command(b.t, "cp", "-a", made+"/data/.", data)
	command(b.t, "cp", "-a", made+"/log/.", log)
	m := b.mariaOn("maria", data, log)
	m.sql("CREATE DATABASE shop",
		"CREATE TABLE shop.accounts (id INT PRIMARY KEY, balance INT NOT NULL) ENGINE=InnoDB",
		"INSERT INTO shop.accounts SELECT seq, 1000 FROM shop.seq_1_to_100",
		"CREATE TABLE shop.count_innodb (n INT PRIMARY KEY, t VARCHAR(200)) ENGINE=InnoDB",
		"CREATE TABLE shop.count_myisam (n INT PRIMARY KEY, t VARCHAR(200), KEY (t)) ENGINE=MyISAM",
		"CREATE TABLE shop.count_aria (n INT PRIMARY KEY, t VARCHAR(200), KEY (t)) ENGINE=Aria TRANSACTIONAL=0",
		"SET PASSWORD FOR root@localhost = PASSWORD('"+strings.ReplaceAll(mariaPassword, "'", "''")+"')")
	b.Group = "maria"
	b.Config = "[group.maria]\ncontainers = [\"maria\"]\nhold-timeout = \"30s\"\n[group.maria.container.maria]\nquiesce = \"mariadb\"\n"
	return m
}

// client runs the program of this host on the server's socket.
func (m *maria) client(args ...string) *exec.Cmd {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), "mariadb", append([]string{
		"--no-defaults", "--user=root", "--socket=" + inside(m.t, m.id, "/run/mysqld/mysqld.sock"),
		"--batch", "--skip-column-names", "--unbuffered", "--skip-reconnect",
	}, args...)...)
	cmd.Env = []string{"MYSQL_PWD=" + mariaPassword}
	return cmd
}

func (m *maria) try(sql string) (string, error) {
	m.t.Helper()
	out, err := m.client("--execute=" + sql).CombinedOutput()
	if strings.Contains(string(out), "ERROR 1045") { // before the password is set there is none
		cmd := m.client("--execute=" + sql)
		cmd.Env = nil
		out, err = cmd.CombinedOutput()
	}
	return strings.TrimSpace(string(out)), err
}

func (m *maria) sql(statements ...string) string {
	m.t.Helper()
	out := ""
	for _, s := range statements {
		var err error
		if out, err = m.try(s); err != nil {
			m.t.Fatalf("%s: %v: %s", s, err, out)
		}
	}
	return out
}

// writer writes to all engines in turn, one statement after the other, and
// remembers when the last one was done and the longest it had to wait.
type writer struct {
	mu      sync.Mutex
	done    int       // the highest number that is in all tables
	at      time.Time // when
	longest time.Duration
	stop    func()
}

// write starts a writer on the named tables, with a transfer between accounts
// for InnoDB.
func (m *maria) write(tables ...string) *writer {
	m.t.Helper()
	cmd := m.client()
	in, err := cmd.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	n, err := strconv.Atoi(m.sql("SELECT COALESCE(MAX(n), 0) FROM shop." + tables[0]))
	if err != nil {
		m.t.Fatal(err)
	}
	w := &writer{at: time.Now(), done: n}
	quit, ended := make(chan struct{}), make(chan struct{})
	w.stop = sync.OnceFunc(func() {
		close(quit)
		<-ended
		_ = in.Close()
		_ = cmd.Wait()
	})
	m.t.Cleanup(w.stop)
	go func() {
		defer close(ended)
		w.loop(in, bufio.NewReader(out), tables, quit)
	}()
	return w
}

func (w *writer) loop(in io.Writer, out *bufio.Reader, tables []string, quit chan struct{}) {
	for n := w.done + 1; ; n++ {
		select {
		case <-quit:
			return
		default:
		}
		var sql strings.Builder
		for _, table := range tables {
			if table == "count_innodb" {
				fmt.Fprintf(&sql, "BEGIN; UPDATE shop.accounts SET balance = balance - 7 WHERE id = %d; UPDATE shop.accounts SET balance = balance + 7 WHERE id = %d; INSERT INTO shop.%s VALUES (%d, REPEAT('x', %d)); COMMIT;\n",
					n%100+1, (n*31+17)%100+1, table, n, n%200)
				continue
			}
			fmt.Fprintf(&sql, "INSERT INTO shop.%s VALUES (%d, CONCAT(%d, REPEAT('y', %d)));\n", table, n, n*7919%1000, n%100)
		}
		fmt.Fprintf(&sql, "SELECT %d;\n", n)
		begin := time.Now()
		if _, err := io.WriteString(in, sql.String()); err != nil {
			return
		}
		if line, err := out.ReadString('\n'); err != nil || strings.TrimSpace(line) != strconv.Itoa(n) {
			return
		}
		w.mu.Lock()
		w.done, w.at, w.longest = n, time.Now(), max(w.longest, time.Since(begin))
		w.mu.Unlock()
	}
}

func (w *writer) state() (done int, at time.Time, longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done, w.at, w.longest
}

// forget starts measuring the longest wait anew.
func (w *writer) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.longest = 0
}

// checkMaria starts a server on a restored copy and returns what is wrong with
// its tables. least: what must be in them.
func (b *bench) checkMaria(name, dir string, least int) error {
	b.t.Helper()
	m := b.mariaOn(name, filepath.Join(dir, "maria data"), filepath.Join(dir, "maria log"))
	defer b.remove(m.id)
	var wrong []string
	for line := range strings.Lines(m.sql("CHECK TABLE shop.accounts, shop.count_innodb, shop.count_myisam, shop.count_aria EXTENDED")) {
		if f := strings.Split(strings.TrimSpace(line), "\t"); len(f) != 4 || f[2] != "status" || f[3] != "OK" {
			wrong = append(wrong, strings.TrimSpace(line))
		}
	}
	if sum := m.sql("SELECT SUM(balance) FROM shop.accounts"); sum != "100000" {
		wrong = append(wrong, "the balances sum to "+sum)
	}
	previous := -1
	for _, table := range []string{"count_innodb", "count_myisam", "count_aria"} {
		var count, highest int
		if _, err := fmt.Sscan(m.sql("SELECT COUNT(*), COALESCE(MAX(n), 0) FROM shop."+table), &count, &highest); err != nil {
			b.t.Fatal(err)
		}
		// They are written in this order, one row each.
		if count != highest || highest < least || previous >= 0 && (highest > previous || highest < previous-1) {
			wrong = append(wrong, fmt.Sprintf("%s has %d rows up to %d, at least %d were there, and the table before has %d", table, count, highest, least, previous))
		}
		previous = highest
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%s", strings.Join(wrong, "; "))
	}
	return nil
}
