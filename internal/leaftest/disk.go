package leaftest

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
)

// SmallDisk runs a test, a function of the top level, twice in processes of its
// own: with a folder on a file system of 1 MiB, which not every machine lets us
// mount, and where no file may grow past 600 KiB.
func SmallDisk(t *testing.T, test func(t *testing.T, dir string)) {
	const variable = "LEAFTEST_SMALL_DISK"
	if dir := os.Getenv(variable); dir != "" {
		signal.Ignore(syscall.SIGXFSZ)
		test(t, dir)
		return
	}
	name := t.Name()
	for _, disk := range []struct {
		name string
		wrap []string // a command that runs another, with its folder as $0
	}{
		{"file size", []string{"sh", "-c", `ulimit -f 1200 && exec "$@"`}}, // blocks of 512
		{"file system", []string{"unshare", "--map-root-user", "--mount", "sh", "-c", `mount -t tmpfs -o size=1m none "$0" && exec "$@"`}},
	} {
		t.Run(disk.name, func(t *testing.T) {
			dir := t.TempDir()
			run := func(args ...string) ([]byte, error) {
				args = append(append(disk.wrap[1:len(disk.wrap):len(disk.wrap)], dir), args...)
				cmd := exec.Command(disk.wrap[0], args...)
				cmd.Env = append(os.Environ(), variable+"="+dir)
				return cmd.CombinedOutput()
			}
			if out, err := run("true"); err != nil {
				t.Skipf("this machine does not let us: %v: %s", err, out)
			}
			if out, err := run(os.Args[0], "-test.run=^"+name+"$"); err != nil {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
}

// NoRoom says whether an error is what a SmallDisk gives.
func NoRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EFBIG) }
