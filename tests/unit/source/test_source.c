/* SPDX-License-Identifier: MIT */
/* The scan driver: names, formats, identity, extents, hooks with their limits, and the guardian that thaws
 * after kill -9. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/source/hooks.h"
#include "sosie/source.h"
#include "tests/support/rounds.h"
#include "tests/support/scan.h"

struct place {
	char dir[64];
	struct sosie_io *io;
	struct sosie_volume v[2];
	struct sosie_err err;
};

static int set_up(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	snprintf(p->dir, sizeof(p->dir), "%s/sosie-source-XXXXXX",
	         getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	assert_non_null(mkdtemp(p->dir));
	assert_int_equal(sosie_io_posix(&p->io, &p->err), 0);
	*state = p;
	return 0;
}

static int tear_down(void **state)
{
	struct place *p = *state;

	assert_int_equal(sosie_io_remove_tree(p->io, p->dir, &p->err), 0);
	sosie_io_free(p->io);
	free(p);
	return 0;
}

static void put_file(struct place *p, unsigned i, const char *name, const void *bytes, size_t len, off_t size)
{
	char text[160];
	int fd;

	snprintf(text, sizeof(text), "%s=%s/%s", name, p->dir, name);
	assert_int_equal(sosie_volume_parse(text, &p->v[i], &p->err), 0);
	fd = open(p->v[i].path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), (ssize_t)len);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static void say(const struct place *p)
{
	char line[1200];

	print_message("  %s\n", sosie_err_line(&p->err, line, sizeof(line)));
}

/* --- names
 * ---------------------------------------------------------------------------------------------------------------
 */

static void test_volume_name_defaults_to_file_name(void **state)
{
	struct place *p = *state;
	struct sosie_volume v;

	assert_int_equal(sosie_volume_parse("/srv/erp-0.raw", &v, &p->err), 0);
	assert_string_equal(v.name.s, "erp-0");
	assert_int_equal(sosie_volume_parse("data=/dev/vg/x", &v, &p->err), 0);
	assert_string_equal(v.name.s, "data");
	assert_string_equal(v.path, "/dev/vg/x");
	assert_int_equal(sosie_volume_parse("/srv/a=b.raw", &v, &p->err), -SOSIE_ENAME);
	say(p);
	assert_int_equal(sosie_volume_parse("x=", &v, &p->err), -SOSIE_EUSAGE);
	assert_int_equal(sosie_volume_parse("../x=/a", &v, &p->err), -SOSIE_ENAME);
	assert_int_equal(sosie_volume_parse("a\nb=/a", &v, &p->err), -SOSIE_ENAME);
	assert_int_equal(sosie_volume_parse("rel.img", &v, &p->err), 0);
	assert_int_equal(v.path[0], '/');
}

/* --- identity
 * ------------------------------------------------------------------------------------------------------------
 */

static void test_identify_other_formats_refused_unless_opaque(void **state)
{
	static const struct {
		const char *bytes, *name;
	} formats[] = {{"QFI\xfb", "qcow2"},
	               {"KDMV", "vmdk"},
	               {"# Disk DescriptorFile", "vmdk"},
	               {"vhdxfile", "vhdx"}};
	struct place *p = *state;
	struct sosie_identity id;

	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		put_file(p, 0, "v", formats[i].bytes, strlen(formats[i].bytes), 65536);
		assert_int_equal(sosie_volume_identify(p->io, &p->v[0], &id, &p->err), -SOSIE_EFORMAT);
		assert_non_null(strstr(p->err.action, formats[i].name));
		p->v[0].opaque = true;
		assert_int_equal(sosie_volume_identify(p->io, &p->v[0], &id, &p->err), 0);
	}
	say(p);
}

static void test_identify_links_followed_and_inode_recorded(void **state)
{
	struct place *p = *state;
	struct sosie_identity a, b;
	char link_path[128];

	put_file(p, 0, "v", "x", 1, 1000);
	assert_int_equal(sosie_volume_identify(p->io, &p->v[0], &a, &p->err), 0);
	assert_int_equal(a.size, 1000);
	snprintf(link_path, sizeof(link_path), "%s/link", p->dir);
	assert_int_equal(symlink(p->v[0].path, link_path), 0);
	assert_int_equal(sosie_volume_parse(link_path, &p->v[1], &p->err), 0);
	assert_int_equal(sosie_volume_identify(p->io, &p->v[1], &b, &p->err), 0);
	assert_true(a.ino == b.ino && a.dev == b.dev && !a.device);
}

static void test_identify_empty_or_missing_refused(void **state)
{
	struct place *p = *state;
	struct sosie_identity id;

	put_file(p, 0, "v", "", 0, 0);
	assert_int_equal(sosie_volume_identify(p->io, &p->v[0], &id, &p->err), -SOSIE_ESIZE);
	say(p);
	unlink(p->v[0].path);
	assert_int_equal(sosie_volume_identify(p->io, &p->v[0], &id, &p->err), -SOSIE_ENOTFOUND);
	say(p);
}

/* --- extents
 * ---------------------------------------------------------------------------------------------------------------
 */

static void test_scan_extents_tile_the_volume(void **state)
{
	struct place *p = *state;
	struct sosie_source *s;
	struct sosie_view *view;
	struct sosie_file *file;
	struct sosie_extent e = {SOSIE_EXTENT_HOLE, 0, 0};
	enum sosie_consistency label;
	const char *path;
	uint64_t size, at = 0, data = 0;
	int fd;

	put_file(p, 0, "v", "x", 1, (8 << 20) + 100);
	fd = open(p->v[0].path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "y", 1, 4 << 20), 1);
	close(fd);
	assert_int_equal(scan_source(p->v, 1, NULL, "g", &s, &p->err), 0);
	assert_int_equal(s->ops->cut(s, NULL, &view, &p->err), 0);
	assert_int_equal(s->ops->path(view, 0, &path, &size, &p->err), 0);
	assert_int_equal(sosie_io_openat(p->io, path, SOSIE_READ, 0, &file, &p->err), 0);
	for (;;) {
		assert_int_equal(s->ops->next(view, 0, p->io, file, at, &e, &p->err), 0);
		if (e.kind == SOSIE_EXTENT_END)
			break;
		assert_int_equal(e.start, at);
		assert_true(e.end > at);
		data += e.kind == SOSIE_EXTENT_DATA ? e.end - e.start : 0;
		at = e.end;
	}
	assert_int_equal(at, size);
	assert_true(data > 0 && data < 1 << 20);
	assert_int_equal(truncate(path, 4096), 0);
	assert_int_equal(s->ops->next(view, 0, p->io, file, 1 << 20, &e, &p->err), -SOSIE_ESHRUNK);
	say(p);
	sosie_io_close(p->io, file, NULL);
	assert_int_equal(s->ops->release(view, true, &label, &p->err), 0);
	assert_int_equal(label, SOSIE_CONSISTENCY_FUZZY);
	s->ops->destroy(s);
}

static void test_scan_keeps_no_views(void **state)
{
	struct place *p = *state;
	struct sosie_source *s;
	struct sosie_view *view;
	struct sosie_view_id id, ids[2] = {{""}, {"r0123456789abcde"}};
	struct sosie_cut_facts facts;
	enum sosie_consistency label;
	bool held[2] = {true, true};
	uint64_t size = 1;

	put_file(p, 0, "v", "x", 1, 4096);
	assert_int_equal(scan_source(p->v, 1, NULL, "g", &s, &p->err), 0);
	assert_int_equal(s->ops->settle(s, ids, 2, held, &p->err), 0);
	assert_false(held[0] || held[1]);
	assert_int_equal(s->ops->cut(s, &ids[1], &view, &p->err), 0);
	s->ops->id(view, &id);
	assert_int_equal(id.s[0], 0);
	assert_null(s->ops->base_path(view, 0, &size));
	assert_int_equal(s->ops->release(view, true, &label, &p->err), 0);
	assert_false(s->ops->unchanged(s, &ids[1]));
	assert_int_equal(s->ops->facts(s, &facts, &p->err), 0);
	assert_true(facts.extents == 0 && facts.stall_us == -1 && facts.last_us == -1);
	assert_int_equal(s->ops->reopen(s, NULL, &ids[1], &view, &p->err), -SOSIE_ENOTFOUND);
	assert_int_equal(s->ops->drop(s, &ids[1], &p->err), 0);
	assert_null(s->ops->backlog); /* it cannot tell */
	s->ops->destroy(s);
}

/* --- hooks
 * ---------------------------------------------------------------------------------------------------------------------
 */

static char *touch_command(const struct place *p, const char *name)
{
	char *text;

	assert_true(asprintf(&text, "echo \"$SOSIE_GROUP\" >> %s/%s", p->dir, name) > 0);
	return text;
}

static unsigned lines_of(const struct place *p, const char *name)
{
	char path[128], line[64];
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", p->dir, name);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		n++;
	if (f)
		fclose(f);
	return n;
}

static int cut_and_release(struct place *p, const struct sosie_hooks *hooks,
                           void (*meanwhile)(struct place *), enum sosie_consistency *label)
{
	struct sosie_source *s;
	struct sosie_view *view;
	int rc;

	assert_int_equal(scan_source(p->v, 1, hooks, "g", &s, &p->err), 0);
	rc = s->ops->cut(s, NULL, &view, &p->err);
	if (rc == 0) {
		if (meanwhile)
			meanwhile(p);
		rc = s->ops->release(view, false, label, &p->err);
	}
	s->ops->destroy(s);
	return rc;
}

static void still_frozen(struct place *p)
{
	assert_int_equal(lines_of(p, "thawed"), 0);
}

static void test_hooks_frozen_until_released_then_app(void **state)
{
	struct place *p = *state;
	char *freeze = touch_command(p, "frozen"), *thaw = touch_command(p, "thawed");
	struct sosie_hooks hooks = {.freeze = freeze, .thaw = thaw};
	enum sosie_consistency label;

	put_file(p, 0, "v", "x", 1, 4096);
	assert_int_equal(cut_and_release(p, &hooks, still_frozen, &label), 0);
	assert_int_equal(label, SOSIE_CONSISTENCY_APP);
	assert_int_equal(lines_of(p, "frozen"), 1);
	assert_int_equal(lines_of(p, "thawed"), 1);
	free(freeze);
	free(thaw);
}

/* Waits for the watchdog's thaw by polling the file that it writes. */
static void until_thawed(struct place *p)
{
	for (unsigned i = 0; i < 500 && lines_of(p, "thawed") == 0; i++)
		poll(NULL, 0, 10);
	assert_int_equal(lines_of(p, "thawed"), 1);
}

static void test_hooks_limit_passed_thaws_and_is_fuzzy(void **state)
{
	struct place *p = *state;
	char *thaw = touch_command(p, "thawed");
	struct sosie_hooks hooks = {.freeze = "true", .thaw = thaw, .freeze_limit_ms = 100};
	enum sosie_consistency label;

	put_file(p, 0, "v", "x", 1, 4096);
	assert_int_equal(cut_and_release(p, &hooks, until_thawed, &label), 0);
	assert_int_equal(label, SOSIE_CONSISTENCY_FUZZY);
	assert_int_equal(lines_of(p, "thawed"), 1);
	free(thaw);
}

static void test_hooks_failed_or_hanging_freeze_is_thawed(void **state)
{
	struct place *p = *state;
	char *thaw = touch_command(p, "thawed");
	struct sosie_hooks hooks = {.freeze = "echo no such database >&2; exit 3", .thaw = thaw};
	enum sosie_consistency label;

	put_file(p, 0, "v", "x", 1, 4096);
	assert_int_equal(cut_and_release(p, &hooks, NULL, &label), -SOSIE_EHOOK);
	say(p);
	assert_non_null(strstr(p->err.what, "no such database"));
	assert_int_equal(lines_of(p, "thawed"), 1);
	hooks.freeze = "sleep 100 & sleep 100";
	hooks.freeze_limit_ms = 200;
	assert_int_equal(cut_and_release(p, &hooks, NULL, &label), -SOSIE_EHOOK);
	say(p);
	assert_int_equal(lines_of(p, "thawed"), 2);
	hooks.freeze = "true";
	hooks.thaw = "exit 1";
	assert_int_equal(cut_and_release(p, &hooks, NULL, &label), -SOSIE_EHOOK);
	say(p);
	assert_int_equal(label, SOSIE_CONSISTENCY_APP);
	free(thaw);
}

static void test_view_is_read_and_always_removed(void **state)
{
	struct place *p = *state;
	char *done = touch_command(p, "done"), *view;
	struct sosie_hooks hooks = {.view_done = done};
	enum sosie_consistency label;

	put_file(p, 0, "v", "x", 1, 4096);
	assert_true(asprintf(&view, "echo v=%s", p->v[0].path) > 0);
	hooks.view = view;
	assert_int_equal(cut_and_release(p, &hooks, NULL, &label), 0);
	assert_int_equal(label, SOSIE_CONSISTENCY_CRASH);
	assert_int_equal(lines_of(p, "done"), 1);
	hooks.view = "echo chatter";
	assert_int_equal(cut_and_release(p, &hooks, NULL, &label), -SOSIE_EHOOK);
	say(p);
	hooks.view = "true";
	assert_int_equal(cut_and_release(p, &hooks, NULL, &label), -SOSIE_EHOOK);
	say(p);
	hooks.view = "yes";
	hooks.hook_limit_ms = 300;
	assert_int_equal(cut_and_release(p, &hooks, NULL, &label), -SOSIE_EHOOK);
	say(p);
	assert_int_equal(lines_of(p, "done"), 4);
	free(view);
	free(done);
}

static void test_view_lines_each_volume_once(void **state)
{
	struct place *p = *state;
	char *paths[2] = {NULL, NULL};

	put_file(p, 0, "a", "x", 1, 1);
	put_file(p, 1, "b", "x", 1, 1);
	assert_int_equal(hook_view_parse("b=/y\n\na=/x", p->v, 2, paths, &p->err), 0);
	assert_string_equal(paths[0], "/x");
	assert_string_equal(paths[1], "/y");
	assert_int_equal(hook_view_parse("a=/z\n", p->v, 2, paths, &p->err), -SOSIE_EHOOK); /* twice */
	free(paths[0]);
	paths[0] = NULL;
	assert_int_equal(hook_view_parse("a=rel\n", p->v, 2, paths, &p->err), -SOSIE_EHOOK);
	assert_int_equal(hook_view_parse("c=/z\n", p->v, 2, paths, &p->err), -SOSIE_EHOOK);
	free(paths[1]);
}

static void test_guardian_thaws_after_kill(void **state)
{
	struct place *p = *state;
	char *thaw = touch_command(p, "thawed"), *done = touch_command(p, "done"), *view;
	struct sosie_hooks hooks = {.freeze = "true", .thaw = thaw, .view_done = done};
	int ready[2];
	char byte;
	pid_t pid;

	put_file(p, 0, "v", "x", 1, 4096);
	assert_true(asprintf(&view, "echo go >&2; echo x > %s/viewing; sleep 100", p->dir) > 0);
	hooks.view = view;
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		struct sosie_source *s;
		struct sosie_view *v;

		close(ready[0]);
		if (scan_source(p->v, 1, &hooks, "g", &s, &p->err) == 0)
			s->ops->cut(s, NULL, &v, &p->err);
		_exit(0);
	}
	close(ready[1]);
	for (unsigned i = 0; i < 500 && lines_of(p, "viewing") == 0; i++)
		poll(NULL, 0, 10);
	assert_int_equal(lines_of(p, "viewing"), 1);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	until_thawed(p);
	for (unsigned i = 0; i < 500 && lines_of(p, "done") == 0; i++)
		poll(NULL, 0, 10);
	assert_int_equal(lines_of(p, "done"), 1);
	assert_int_equal(read(ready[0], &byte, 1),
	                 0); /* nobody is left that holds what the dead process held */
	close(ready[0]);
	free(thaw);
	free(done);
	free(view);
}

/* The limit passes while the guardian is told of a view: writers are let go once, by whoever it is. */
static void test_freeze_limit_around_a_view_thaws_once(void **state)
{
	const unsigned rounds = test_rounds(30, 300);
	struct place *p = *state;
	char *thaw = touch_command(p, "thawed"), *done = touch_command(p, "done"), *view;
	struct sosie_hooks hooks = {.freeze = "true", .thaw = thaw, .view_done = done};
	enum sosie_consistency label;

	put_file(p, 0, "v", "x", 1, 4096);
	assert_true(asprintf(&view, "echo v=%s", p->v[0].path) > 0);
	hooks.view = view;
	for (unsigned i = 0; i <= rounds; i++) {
		hooks.freeze_limit_ms = i < rounds ? 1 + i % 10 : 60000; /* the last one is in time */
		(void)cut_and_release(p, &hooks, NULL, &label); /* the freeze itself may come too late */
		assert_int_equal(lines_of(p, "thawed"), i + 1);
	}
	assert_true(lines_of(p, "done") > 0);
	free(thaw);
	free(done);
	free(view);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        CASE(test_volume_name_defaults_to_file_name),
	        CASE(test_identify_other_formats_refused_unless_opaque),
	        CASE(test_identify_links_followed_and_inode_recorded),
	        CASE(test_identify_empty_or_missing_refused),
	        CASE(test_scan_extents_tile_the_volume),
	        CASE(test_scan_keeps_no_views),
	        CASE(test_hooks_frozen_until_released_then_app),
	        CASE(test_hooks_limit_passed_thaws_and_is_fuzzy),
	        CASE(test_hooks_failed_or_hanging_freeze_is_thawed),
	        CASE(test_view_is_read_and_always_removed),
	        CASE(test_view_lines_each_volume_once),
	        CASE(test_guardian_thaws_after_kill),
	        CASE(test_freeze_limit_around_a_view_thaws_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
