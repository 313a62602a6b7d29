package repo

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// thisProcess identifies the running process.
func thisProcess() holder {
	return holder{
		BootID:       readLine("/proc/sys/kernel/random/boot_id"),
		PIDNamespace: readLink("/proc/self/ns/pid"),
		ProcessStart: lookAt(os.Getpid()).start,
	}
}

// lookAt returns the state of the process pid.
func lookAt(pid int) processState {
	if err := unix.Kill(pid, 0); errors.Is(err, unix.ESRCH) {
		return processState{gone: true}
	}
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return processState{} // it may just not be for us to see
	}
	state, ticks, ok := parseStat(stat)
	if !ok {
		return processState{}
	}
	if (state == 'Z' || state == 'X') && threads(dir) <= 1 {
		return processState{gone: true} // killed, but its parent does not care
	}
	return processState{start: readLink("/proc/self/ns/time") + " " + ticks}
}

// parseStat returns the state and the start of a process, in clock ticks since
// the machine started, from its stat file: see proc_pid_stat(5). The name of the
// program, in parentheses, may hold anything.
func parseStat(stat []byte) (state byte, ticks string, ok bool) {
	const stateField, startField = 0, 19 // counted behind the name
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, "", false
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) <= startField || len(fields[stateField]) != 1 {
		return 0, "", false
	}
	return fields[stateField][0], fields[startField], true
}

// threads returns how many threads a process has left. Its first one can be a
// zombie while others work.
func threads(dir string) int {
	entries, err := os.ReadDir(dir + "/task")
	if err != nil {
		return 0
	}
	return len(entries)
}

// comparableStarts reports whether two starts were read in the same time
// namespace, which shifts the clock that they count on.
func comparableStarts(a, b string) bool {
	nsA, _, _ := strings.Cut(a, " ")
	nsB, _, _ := strings.Cut(b, " ")
	return nsA == nsB
}

func readLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func readLink(path string) string {
	target, err := os.Readlink(path)
	if err != nil {
		return ""
	}
	return target
}
