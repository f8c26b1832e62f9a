// Package site tests the pages of docs/ as they are read: their links, and the site that `make site` makes of
// them, in a browser.
package site
