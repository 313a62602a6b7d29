package secret

import "regexp"

// URLMask is what HideUserInfo writes in place of a user and password; net/url has the same.
const URLMask = "xxxxx"

var userInfo = regexp.MustCompile(`(://)[^/\s"',]*@`)

// HideUserInfo returns text with "xxxxx" in place of the user, password or token of every URL in it:
// nats://bob:pass@host becomes nats://xxxxx@host.
func HideUserInfo(text string) string {
	return userInfo.ReplaceAllString(text, "${1}"+URLMask+"@")
}
