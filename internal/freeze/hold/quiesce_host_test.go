//go:build host

package hold_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/freeze"
	"snapd/internal/point"
)

var allTables = []string{"count_innodb", "count_myisam", "count_aria"}

func TestMariaDBIsQuiesced(t *testing.T) {
	b := newBench(t)
	m := b.newMaria()
	w := m.write(allTables...)
	eventually(t, 10*time.Second, "the writer writes", func() bool { n, _, _ := w.state(); return n > 20 })
	for i := range 2 {
		before, _, _ := w.state()
		w.forget()
		p := b.take()
		_, _, longest := w.state()
		t.Logf("point %d: held %d µs, window %d µs, lock had after %d µs; the writer waited %v at the longest",
			i, p.HeldUS, p.WindowUS, p.Timings.Hold, longest)
		if p.Consistency != point.Quiesced || p.WindowUS == 0 || p.HeldUS <= p.WindowUS || p.Timings.Hold == 0 {
			t.Errorf("%s, window %d, held %d, hold %d", p.Consistency, p.WindowUS, p.HeldUS, p.Timings.Hold)
		}
		if len(p.Quiesced) != 1 || p.Quiesced[0].By != "mariadb" || !strings.Contains(p.Why, "BACKUP STAGE") {
			t.Errorf("%+v, why %s", p.Quiesced, p.Why)
		}
		if err := b.checkMaria("copy", b.restore(p, "copy"+string(rune('0'+i))), before); err != nil {
			t.Error(err)
		}
		p.Containers = nil // what the engine says of them has the environment, and is encrypted
		if text, _ := json.Marshal(p); strings.Contains(string(text), "secret") {
			t.Error("the password stands in the restore point")
		}
	}
}

// TestALongStatementStallsNobody: something that runs long in a MyISAM table
// keeps the lock from being had. Other writers must not wait for it longer
// than one try lasts, and nothing may be frozen.
func TestALongStatementStallsNobody(t *testing.T) {
	b := newBench(t)
	m := b.newMaria()
	b.Config = strings.Replace(b.Config, "30s", "7s", 1)
	innodb, aria := m.write("count_innodb"), m.write("count_aria")
	m.sql("INSERT INTO shop.count_myisam VALUES (1, 'x')")
	long := m.client("--execute=UPDATE shop.count_myisam SET t = IF(SLEEP(300), t, t)")
	if err := long.Start(); err != nil {
		t.Fatal(err)
	}
	running := "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'UPDATE%SLEEP%'"
	eventually(t, 10*time.Second, "the long statement runs", func() bool { return m.sql(running) == "1" })
	innodb.forget()
	aria.forget()
	begin := time.Now()
	points, err := b.agent(func(step string) {
		if step == freeze.StepOpen {
			t.Error("something was frozen without the lock")
		}
	}).Snapshot(t.Context(), []string{"maria"})
	took := time.Since(begin)
	_, _, transactional := innodb.state()
	_, _, plain := aria.state()
	t.Logf("gave up after %v: %v; writers waited at the longest: InnoDB %v, Aria %v", took, err, transactional, plain)
	if err == nil || len(points) != 0 || !strings.Contains(err.Error(), "1205") || !strings.Contains(err.Error(), "within 7s (hold-timeout)") {
		t.Errorf("%d points, %v", len(points), err)
	}
	if took > 9*time.Second || transactional > 2*time.Second || plain > 2*time.Second {
		t.Errorf("took %v; writers waited %v, %v", took, transactional, plain)
	}

	// One that ends in time is waited for, by trying again: it ends two seconds,
	// which is longer than a try, after the first was seen.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for m.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'BACKUP STAGE BLOCK%'") == "0" {
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		m.sql("KILL " + m.sql("SELECT id FROM information_schema.processlist WHERE info LIKE 'UPDATE%SLEEP%' LIMIT 1"))
	}()
	p := b.take()
	<-ended
	_ = long.Wait()
	if p.Consistency != point.Quiesced || p.Quiesced[0].Tries < 2 || p.HeldUS > 2_000_000 {
		t.Errorf("%s, %+v", p.Consistency, p.Quiesced)
	}
}

// TestWhatIsNoReasonToWait: long reads, an open transaction and a copying
// ALTER TABLE do not keep the lock from being had.
func TestWhatIsNoReasonToWait(t *testing.T) {
	b := newBench(t)
	m := b.newMaria()
	m.sql("CREATE TABLE shop.big (id INT PRIMARY KEY, t CHAR(100)) ENGINE=InnoDB",
		"INSERT INTO shop.big SELECT seq, 'x' FROM shop.seq_1_to_200000")
	for _, sql := range []string{
		"SELECT SLEEP(300) FROM shop.count_myisam, shop.accounts",
		"BEGIN; UPDATE shop.accounts SET balance = balance + 0 WHERE id = 1; SELECT SLEEP(300) AS transaction",
		"ALTER TABLE shop.big FORCE, ALGORITHM=COPY",
	} {
		m.sql("INSERT IGNORE INTO shop.count_myisam VALUES (1, 'x')")
		c := m.client("--execute=" + sql)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		word := sql[strings.LastIndex(sql, ";")+1:]
		eventually(t, 10*time.Second, "it runs: "+sql, func() bool {
			return m.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '"+strings.TrimSpace(word)+"%'") == "1"
		})
		if p := b.take(); p.Consistency != point.Quiesced || p.Quiesced[0].Tries != 1 {
			t.Errorf("%s: %s, %+v", sql, p.Consistency, p.Quiesced)
		}
		if strings.HasPrefix(sql, "ALTER") {
			if err := c.Wait(); err != nil {
				t.Error(err)
			}
			continue
		}
		_ = c.Process.Kill()
		_ = c.Wait()
	}
}

// TestPasswordsThatAreFound are the ways in which a container's own
// environment has the root password.
func TestPasswordsThatAreFound(t *testing.T) {
	b := newBench(t)
	m := b.newMaria()
	m.sql("SELECT 1")
	b.remove(m.id)
	data, log := b.btrfs+"/maria data", b.btrfs+"/maria log"
	for name, env := range map[string][]string{
		"mysql":        {"MYSQL_ROOT_PASSWORD=" + mariaPassword},
		"mariadb file": {"MARIADB_ROOT_PASSWORD_FILE=/var/lib/mysql/my password"},
		"mysql file":   {"MYSQL_ROOT_PASSWORD_FILE=/var/lib/mysql/my password"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(data+"/my password", []byte(mariaPassword+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			b.mariaEnv = env
			m := b.mariaOn("maria", data, log)
			defer b.remove(m.id)
			if p := b.take(); p.Consistency != point.Quiesced {
				t.Errorf("%s", p.Consistency)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		b.mariaEnv = []string{"X=y"}
		m := b.mariaOn("maria", data, log)
		defer b.remove(m.id)
		_, err := b.agent(nil).Snapshot(t.Context(), []string{"maria"})
		if err == nil || !strings.Contains(err.Error(), "Access denied") || !strings.Contains(advice.Of(err), "MARIADB_ROOT_PASSWORD") {
			t.Errorf("%v", err)
		}
	})
}

// TestTheRecipeOfAHoldCommand is the form that docs/QUIESCE.md has for MySQL,
// with the statement for MyISAM tables: a client that is fed through a pipe.
func TestTheRecipeOfAHoldCommand(t *testing.T) {
	b := newBench(t)
	m := b.newMaria()
	b.Config = "[group.maria]\ncontainers = [\"maria\"]\nhold-timeout = \"10s\"\n[group.maria.container.maria]\n" +
		`hold = '''sh -c '{ echo "SET SESSION lock_wait_timeout = 2, wait_timeout = 15; FLUSH TABLES WITH READ LOCK; SELECT 1;"; cat; } | MYSQL_PWD="$MARIADB_ROOT_PASSWORD" mariadb -u root --batch --skip-column-names --unbuffered --skip-reconnect'` + "'''\n"
	w := m.write(allTables...)
	eventually(t, 20*time.Second, "the writer writes", func() bool { n, _, _ := w.state(); return n > 20 })
	before, _, _ := w.state()
	p := b.take()
	if p.Consistency != point.Quiesced || p.Quiesced[0].Said != "1" {
		t.Errorf("%s, %+v", p.Consistency, p.Quiesced)
	}
	if err := b.checkMaria("copy", b.restore(p, "copy"), before); err != nil {
		t.Error(err)
	}
	w.stop()
	// A table lock that stays: the client's own words are in the error.
	blocker := m.client("--execute=LOCK TABLES shop.count_myisam WRITE; SELECT SLEEP(300)")
	if err := blocker.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the table is locked", func() bool {
		return m.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'") == "1"
	})
	_, err := b.agent(nil).Snapshot(t.Context(), []string{"maria"})
	if err == nil || !strings.Contains(err.Error(), "Lock wait timeout exceeded") {
		t.Errorf("%v", err)
	}
	_ = blocker.Process.Kill()
	_ = blocker.Wait()
}
