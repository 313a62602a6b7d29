package secret

import "regexp"

// URLMask is what HideUserInfo writes in place of a user and password; net/url has the same.
const URLMask = "xxxxx"

// EscapeAdvice is what to tell whose URL is none, where what makes it none may be part of a password.
const EscapeAdvice = "in a user's name and password write %2F for /, %3A for :, %40 for @ and %2C for a comma"

var userInfo = regexp.MustCompile(`(://)[^/\s"',]*@`)

// HideUserInfo returns text with "xxxxx" in place of the user, password or token of every URL in it:
// nats://bob:pass@host becomes nats://xxxxx@host.
func HideUserInfo(text string) string {
	return userInfo.ReplaceAllString(text, "${1}"+URLMask+"@")
}
