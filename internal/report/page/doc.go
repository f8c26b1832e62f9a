// Package page makes one HTML page of the events of a run: summary, timeline, failures with
// all that is known of them, tests, slowest tests and the coverage of specifications. The
// page needs no other file and no network.
//
// It knows neither how events are made nor where they are kept. Start with Builder: it takes
// streams, and its Write renders the page. What the page does in a browser is page.js, which
// gets the model of model.go as JSON.
//
// Texts of guests are hostile. They get into the page as JSON, and page.js puts them into
// text nodes only; a policy in the page forbids it to load or send anything.
package page
