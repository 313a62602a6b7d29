package restore

import (
	"encoding/json"

	"jetsam/internal/strictjson"
)

// limitFields are the fields of a stream's configuration in which every number below 1 means that there is no limit. Servers answer -1.
var limitFields = []string{"max_consumers", "max_msgs", "max_msgs_per_subject", "max_bytes", "max_msg_size"}

// likeAServer writes into wanted what a server makes of it, as it stores a configuration otherwise than it was given (nats-server 2.9 to 2.15,
// checkStreamCfg). Where that depends on what the server knows, it is as the server's own, got, says. Fields that say nothing on either side are
// taken out: a server leaves out most of those.
func likeAServer(wanted, got map[string]any) {
	for _, field := range limitFields {
		for _, config := range []map[string]any{wanted, got} {
			if n, said := config[field]; said && isUnlimited(n) {
				config[field] = json.Number("-1")
			}
		}
	}
	for field, value := range map[string]any{"num_replicas": json.Number("1"), "subjects": []any{wanted["name"]}} {
		if v, said := wanted[field]; said && strictjson.IsEmpty(v) && !copies(wanted, field) {
			wanted[field] = value
		}
	}
	if wanted["persist_mode"] == "default" {
		wanted["persist_mode"] = ""
	}
	if r, ok := wanted["republish"].(map[string]any); ok && strictjson.IsEmpty(r["src"]) {
		r["src"] = ">"
	}
	for field := range decidedByServer(wanted) {
		if _, said := wanted[field]; said {
			wanted[field] = got[field]
		}
	}
	dropEmpty(wanted, got)
}

// copies says whether it is the subjects of a stream that are empty because it copies from others.
func copies(config map[string]any, field string) bool {
	return field == "subjects" && (!strictjson.IsEmpty(config["mirror"]) || !strictjson.IsEmpty(config["sources"]))
}

// decidedByServer are the fields that a server sets by itself where a configuration leaves them at nothing, or whatever it says.
func decidedByServer(wanted map[string]any) map[string]bool {
	out := map[string]bool{}
	if strictjson.IsEmpty(wanted["duplicate_window"]) {
		out["duplicate_window"] = true
	}
	if !strictjson.IsEmpty(wanted["mirror"]) {
		out["mirror_direct"] = true // which is that of the other stream, where the server has it
	}
	marks, schedules := !strictjson.IsEmpty(wanted["subject_delete_marker_ttl"]), !strictjson.IsEmpty(wanted["allow_msg_schedules"])
	if marks && strictjson.IsEmpty(wanted["allow_msg_ttl"]) {
		out["allow_msg_ttl"] = true
	}
	if (marks || schedules) && strictjson.IsEmpty(wanted["allow_rollup_hdrs"]) {
		out["allow_rollup_hdrs"], out["deny_purge"] = true, true
	}
	return out
}

// isUnlimited says whether a limit of that number is none.
func isUnlimited(v any) bool {
	n, ok := v.(json.Number)
	if !ok {
		return false
	}
	i, err := n.Int64()
	return err == nil && i <= 0
}

// dropEmpty takes fields out that say nothing in either of two values. An empty entry of the metadata says that it is there.
func dropEmpty(a, b any) {
	x, xok := object(a, b)
	y, yok := object(b, a)
	if xok && yok {
		for _, fields := range []map[string]any{x, y} {
			for field := range fields {
				if field != "metadata" {
					dropEmpty(x[field], y[field])
				}
				if strictjson.IsEmpty(x[field]) && strictjson.IsEmpty(y[field]) {
					delete(x, field)
					delete(y, field)
				}
			}
		}
		return
	}
	list, lok := a.([]any)
	other, ook := b.([]any)
	if lok && ook && len(list) == len(other) {
		for i := range list {
			dropEmpty(list[i], other[i])
		}
	}
}
