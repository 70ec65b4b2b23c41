/* SPDX-License-Identifier: MIT */
/* Progress for people: what, how much, how fast, how long still. */
#include <stddef.h>
#include <string.h>

#include "sosie/names.h"
#include "tools/common/progress.h"

#define FIRST_MS 1000
#define TERMINAL_EVERY_MS 200
#define PLAIN_EVERY_MS 10000

/* "copying erp-0: 1.2 GiB of 4 GiB (30 %), 210 MiB/s, 13 s left" */
static void describe(const struct progress *p, uint64_t done, uint64_t total, int64_t now, char *dst,
                     size_t size)
{
	const int64_t spent_ms = now - p->step_ms;
	const uint64_t moved = done >= p->step_done ? done - p->step_done : 0;
	const double rate = spent_ms > 0 ? (double)moved * 1000.0 / (double)spent_ms : 0;
	char a[32], b[32], c[32];
	int at;

	at = snprintf(dst, size, "%s: %s", p->step, sosie_size_text(a, sizeof(a), done));
	if (total > 0)
		at += snprintf(dst + at, size - (size_t)at, " of %s (%u %%)",
		               sosie_size_text(b, sizeof(b), total),
		               (unsigned)(done >= total ? 100 : (double)done * 100.0 / (double)total));
	if (rate >= 1)
		at += snprintf(dst + at, size - (size_t)at, ", %s/s",
		               sosie_size_text(c, sizeof(c), (uint64_t)rate));
	if (rate >= 1 && total > done) {
		uint64_t left_s = (uint64_t)((double)(total - done) / rate) + 1;
		snprintf(dst + at, size - (size_t)at, ", %s left",
		         sosie_duration_text(c, sizeof(c), left_s * 1000));
	}
}

static void show(struct progress *p, const char *text)
{
	const size_t len = strlen(text);

	if (p->terminal) {
		fprintf(p->out, "\r%.79s%*s", text, len < p->width ? (int)(p->width - len) : 0, "");
		p->width = len < 79 ? len : 79;
	} else {
		fprintf(p->out, "%s\n", text);
	}
	fflush(p->out);
}

/* On a terminal the line goes on with the next step; plain lines are for a step that takes long by itself. */
static void begin(struct progress *p, const char *step, uint64_t done, int64_t now)
{
	snprintf(p->step, sizeof(p->step), "%s", step);
	p->step_ms = now;
	p->step_done = done;
	if (!p->terminal)
		p->shown_ms = now;
	else if (!p->working)
		p->shown_ms = now + FIRST_MS - TERMINAL_EVERY_MS;
	p->working = true;
}

static void on_report(struct sosie_progress *report, const char *step, uint64_t done, uint64_t total)
{
	struct progress *p = (struct progress *)(void *)((char *)report - offsetof(struct progress, report));
	const int64_t now = sosie_mono_ms(p->clock);
	char text[256];

	if (!p->working || done < p->last_done || strncmp(p->step, step, sizeof(p->step) - 1) != 0)
		begin(p, step, done, now);
	p->last_done = done;
	if (now - p->shown_ms < (p->terminal ? TERMINAL_EVERY_MS : PLAIN_EVERY_MS))
		return;
	p->shown_ms = now;
	describe(p, done, total, now, text, sizeof(text));
	show(p, text);
}

static void on_report_quiet(struct sosie_progress *report, const char *step, uint64_t done, uint64_t total)
{
	(void)report;
	(void)step;
	(void)done;
	(void)total;
}

void progress_init(struct progress *p, struct sosie_clock *clock, FILE *out, bool terminal, bool quiet)
{
	memset(p, 0, sizeof(*p));
	p->report.report = quiet ? on_report_quiet : on_report;
	p->clock = clock;
	p->out = out;
	p->terminal = terminal;
}

void progress_clear(struct progress *p)
{
	if (p->width > 0) {
		fprintf(p->out, "\r%*s\r", (int)p->width, "");
		fflush(p->out);
	}
	p->width = 0;
	p->working = false;
}
