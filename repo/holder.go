package repo

// holder identifies the process that holds a lock, so that one that died on this
// machine can be told from one that lives elsewhere. A host name and a process
// ID cannot do that: containers share names and restart with equal IDs.
//
// restic knows nothing of these fields of a lock and ignores them. Whoever
// leaves one empty is never declared dead.
type holder struct {
	BootID       string `json:"boot_id,omitempty"`       // of the machine, new at each start
	PIDNamespace string `json:"pid_namespace,omitempty"` // in which the process ID counts
	ProcessStart string `json:"process_start,omitempty"` // tells the process from a later one of its ID
}

func (h holder) complete() bool {
	return h.BootID != "" && h.PIDNamespace != "" && h.ProcessStart != ""
}

// dead reports whether the process pid that h identifies certainly ended. That is
// known only of processes on the same machine since it started, in the same PID
// namespace. look returns the state of the process that has an ID now.
func (h holder) dead(pid int, self holder, look func(pid int) processState) bool {
	if pid <= 0 || !h.complete() || !self.complete() ||
		h.BootID != self.BootID || h.PIDNamespace != self.PIDNamespace {
		return false
	}
	now := look(pid)
	switch {
	case now.gone:
		return true
	case now.start == "":
		return false
	default:
		return comparableStarts(now.start, h.ProcessStart) && now.start != h.ProcessStart
	}
}

// processState is what is known of the process that has a certain ID.
type processState struct {
	gone  bool   // there is none, or what is left of it does nothing any more
	start string // when it started, as in holder; empty if that cannot be seen
}
