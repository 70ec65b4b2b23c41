/* SPDX-License-Identifier: MIT */
/* Choosing the driver: the one asked for, or the best that the volumes' places allow, and why. */
#include <stdio.h>
#include <string.h>

#include "engine/source/scan.h"
#include "engine/source/views.h"
#include "sosie/log.h"

static int open_scan(const struct sosie_source_options *o, const char *why, struct sosie_source **out,
                     char *reason, size_t size, struct sosie_err *err)
{
	snprintf(reason, size, "scan: %s%s", why,
	         scan_pauses(o) ? "" : "; pause is not used: reading takes too long to hold writers");
	return scan_open(o, out, err);
}

/* A clone costs all extents that a file has: where they grow for ever, clones hold writers ever longer. */
static bool stalls_too_long(struct sosie_source *s, uint64_t max_us, char *why, size_t size)
{
	struct sosie_cut_facts facts;

	if (max_us == 0 || s->ops->facts(s, &facts, NULL) != 0)
		return false;
	if (!facts.growing || facts.stall_us < 0 || (uint64_t)facts.stall_us <= max_us)
		return false;
	snprintf(why, size, "a clone would hold writers for %lld ms (%llu extents, growing)",
	         (long long)facts.stall_us / 1000, (unsigned long long)facts.extents);
	return true;
}

static int open_auto(const struct sosie_source_options *o, struct sosie_source **out, char *reason,
                     size_t size, struct sosie_err *err)
{
	struct sosie_err no_btrfs = {0}, no_reflink = {0};
	char why[160];
	int rc = btrfs_open(o, out, reason, size, &no_btrfs);

	if (rc != -SOSIE_EUNSUPPORTED) {
		if (rc != 0 && err)
			*err = no_btrfs;
		return rc;
	}
	rc = reflink_open(o, out, &no_reflink);
	if (rc == 0 && !stalls_too_long(*out, o->max_stall_us, why, sizeof(why))) {
		snprintf(reason, size, "reflink: %s", no_btrfs.what);
		return 0;
	}
	if (rc == 0) {
		(*out)->ops->destroy(*out);
		rc = open_scan(o, why, out, reason, size, err);
		if (rc == 0)
			(*out)->stands_in = true;
		return rc;
	}
	if (rc == -SOSIE_EUNSUPPORTED)
		return open_scan(o, no_reflink.what, out, reason, size, err);
	if (err)
		*err = no_reflink;
	return rc;
}

/* A driver that was asked for by name and cannot be had. */
static int wrap(int rc, const char *name, struct sosie_err *err)
{
	if (rc != -SOSIE_EUNSUPPORTED)
		return rc;
	sosie_err_wrap(err, "source %s", name);
	if (err && !err->action[0])
		sosie_err_action(err, "source: auto takes the best driver that the path allows");
	return rc;
}

/* A machine that stands still must not wait for the next cut. */
static int let_go_left(const struct sosie_source_options *o, struct sosie_err *err)
{
	bool undone;
	int rc = pause_undo_left(o, &undone, err);

	if (undone)
		sosie_log(SOSIE_LOG_WARNING,
		          "%s/%s: writers that a process which died had left held were let go",
		          o->tenant ? o->tenant : "", o->group);
	return rc;
}

static int open_driver(const struct sosie_source_options *o, struct sosie_source **out, char *reason,
                       size_t size, struct sosie_err *err)
{
	int rc;

	switch (o->kind) {
	case SOSIE_SOURCE_SCAN:
		return open_scan(o, "asked for", out, reason, size, err);
	case SOSIE_SOURCE_REFLINK:
		rc = reflink_open(o, out, err);
		snprintf(reason, size, "reflink: asked for");
		return wrap(rc, "reflink", err);
	case SOSIE_SOURCE_BTRFS:
		return wrap(btrfs_open(o, out, reason, size, err), "btrfs", err);
	case SOSIE_SOURCE_AUTO:
		break;
	}
	if (o->hooks && o->hooks->view)
		return open_scan(o, "a view command is given", out, reason, size, err);
	return open_auto(o, out, reason, size, err);
}

int sosie_source_open(const struct sosie_source_options *o, struct sosie_source **out, char *reason,
                      size_t size, struct sosie_err *err)
{
	int rc;

	*out = NULL;
	if (size > 0)
		reason[0] = '\0';
	if (o->count == 0)
		return sosie_err_set(err, SOSIE_EUSAGE, "a source without volumes");
	if (o->hooks && o->hooks->view &&
	    (o->kind == SOSIE_SOURCE_REFLINK || o->kind == SOSIE_SOURCE_BTRFS)) {
		sosie_err_set(err, SOSIE_EUNSUPPORTED, "a view command is given: only scan reads its view");
		return sosie_err_action(err, "leave the view command or the source out");
	}
	rc = let_go_left(o, err);
	return rc == 0 ? open_driver(o, out, reason, size, err) : rc;
}
