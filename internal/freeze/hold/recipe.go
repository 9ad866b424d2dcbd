package hold

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"
)

// MariaDB is the Lock.By of the lock that is built in.
const MariaDB = "mariadb"

// recipe is how a lock is taken and released.
type recipe struct {
	args []string

	hello    string // what to write first
	greeting string // the line that answers it: the session stands; "" means that starting the command asks for the lock
	ask      string // what to write to ask for the lock
	ack      string // the line that says it is held; "" means the first line
	release  string // what to write to release it, besides closing the input
	released string // the line that says it was held until then

	again     func(output string) bool // whether another try may succeed; nil: never
	pause     time.Duration            // between two tries
	busy      string                   // what to do when time is up
	otherwise string                   // what to do when it fails otherwise
}

func recipeOf(l Lock, timeout time.Duration) recipe {
	if l.By == MariaDB && l.Args == nil {
		return mariadb(timeout)
	}
	return recipe{
		args:      l.Args,
		busy:      "have the hold command print one line when it has its lock (and its program not buffer that line), and try it with: docker exec -i CONTAINER COMMAND",
		otherwise: "try it with: docker exec -i CONTAINER COMMAND",
	}
}

// mariadbScript runs the client with the password of the container's own
// environment, as the official image knows it; it appears on no command line.
const mariadbScript = `
password="${MARIADB_ROOT_PASSWORD:-${MYSQL_ROOT_PASSWORD:-}}"
file="${MARIADB_ROOT_PASSWORD_FILE:-${MYSQL_ROOT_PASSWORD_FILE:-}}"
if [ -z "$password" ] && [ -n "$file" ]; then password="$(cat "$file")" || exit 1; fi
if [ -n "$password" ]; then MYSQL_PWD="$password"; export MYSQL_PWD; fi
client=mariadb
command -v mariadb >/dev/null 2>&1 || client=mysql
exec "$client" --user=root --batch --skip-column-names --unbuffered --skip-reconnect
`

// mariadb holds BACKUP STAGE BLOCK_COMMIT: tables of all engines are flushed
// and closed, and nothing is committed. What it has to wait for it waits one
// second, since others queue up behind it meanwhile; then it leaves, lets them
// through, and tries again. wait_timeout has the server itself end the session
// in case snapd and the engine cannot.
func mariadb(timeout time.Duration) recipe {
	seconds := strconv.Itoa(max(1, int(math.Ceil(timeout.Seconds()))))
	return recipe{
		args:      []string{"sh", "-c", mariadbScript},
		hello:     "SET SESSION lock_wait_timeout = 1, wait_timeout = " + seconds + ";\nSELECT 'snapd-connected';\n",
		greeting:  "snapd-connected",
		ask:       "BACKUP STAGE START;\nBACKUP STAGE BLOCK_COMMIT;\nSELECT 'snapd-held';\n",
		ack:       "snapd-held",
		release:   "BACKUP STAGE END;\nSELECT 'snapd-released';\n",
		released:  "snapd-released",
		again:     temporary.MatchString,
		pause:     2 * time.Second,
		busy:      "look for statements that run long (SHOW PROCESSLIST) or another backup, or raise hold-timeout",
		otherwise: "see that the container has what snapd.quiesce=mariadb needs: sh, the client mariadb or mysql, and the root password in its environment (MARIADB_ROOT_PASSWORD or MARIADB_ROOT_PASSWORD_FILE) or a root that needs none; for MySQL and others take a hold command from docs/QUIESCE.md",
	}
}

// temporary are the errors after which another try may succeed: lock wait
// timeout, deadlock, too many connections, and a server that does not listen
// yet or shuts down.
var temporary = regexp.MustCompile(`(?m)^ERROR (1205|1213|1040|1053|2002|2003|2006|2013)\b`)

// postgresScript runs psql with user and password of the container's own
// environment, as the official image knows them.
const postgresScript = `
user="${POSTGRES_USER:-${PGUSER:-}}"
if [ -z "$user" ] && [ -n "${POSTGRES_USER_FILE:-}" ]; then user="$(cat "$POSTGRES_USER_FILE")" || exit 1; fi
password="${POSTGRES_PASSWORD:-${PGPASSWORD:-}}"
if [ -z "$password" ] && [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then password="$(cat "$POSTGRES_PASSWORD_FILE")" || exit 1; fi
PGUSER="${user:-postgres}"; export PGUSER
if [ -n "$password" ]; then PGPASSWORD="$password"; export PGPASSWORD; fi
PGCONNECT_TIMEOUT="$1"; export PGCONNECT_TIMEOUT
PGOPTIONS="-c statement_timeout=${1}s"; export PGOPTIONS
exec psql --no-psqlrc --no-password --quiet --dbname="${PGDATABASE:-postgres}" --command=CHECKPOINT
`

// Checkpoint has PostgreSQL write out everything, so that a restore has little
// to recover and the window little to flush. It locks nothing.
func Checkpoint(ctx context.Context, r Runner, to Target, timeout time.Duration) error {
	seconds := strconv.Itoa(max(2, int(math.Ceil(timeout.Seconds()))))
	o := Run(ctx, r, Hook{Target: to, Args: []string{"sh", "-c", postgresScript, "snapd", seconds}}, timeout)
	if err := o.Failure(); err != nil {
		return fmt.Errorf("checkpoint of container %s (postgres): %w", to.Name, err)
	}
	return nil
}
