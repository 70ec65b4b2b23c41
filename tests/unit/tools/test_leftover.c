/* SPDX-License-Identifier: MIT */
/* State folders of groups that the configuration does not name. Includes tools/sosied/leftover.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tools/sosied/leftover.c"

static char logged[8][4096];
static unsigned lines;

void sosie_log(enum sosie_log_level level, const char *fmt, ...)
{
	va_list ap;

	assert_int_equal(level, SOSIE_LOG_WARNING);
	assert_true(lines < 8);
	va_start(ap, fmt);
	vsnprintf(logged[lines++], sizeof(logged[0]), fmt, ap);
	va_end(ap);
}

/* In the place of the mirror's, which would bring all of it. */
int sosie_mirror_source(const struct sosie_config_group *group, char tag[SOSIE_MIRROR_TAG],
                        struct sosie_source_options *out, struct sosie_err *err)
{
	(void)out;
	(void)err;
	assert_true(strncmp(group->state, "/tmp/sosie-leftover-", 20) == 0);
	snprintf(tag, SOSIE_MIRROR_TAG, "01234567");
	return 0;
}

static char root[] = "/tmp/sosie-leftover-XXXXXX";
static const char *const folders[] = {"/h_22",
                                      "/h_22/acme",
                                      "/h_22/acme/erp",
                                      "/h_22/acme/gone",
                                      "/h_22/acme/pending",
                                      "/h_22/acme/dropped",
                                      "/h_22/acme/begun",
                                      "/h_22/acme/done",
                                      "/h_22/acme/broken"};

static void put_as(const char *name, const char *group, const char *text)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/h_22/acme/%s/%s", root, group, name);
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void put(const char *group, const char *text)
{
	put_as("state.json", group, text);
}

static int make(void **state)
{
	char path[200];

	(void)state;
	if (!mkdtemp(root))
		return -1;
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		snprintf(path, sizeof(path), "%s%s", root, folders[i]);
		if (mkdir(path, 0700) != 0)
			return -1;
	}
	return 0;
}

static int take_away(void **state)
{
	char path[300];

	(void)state;
	for (size_t i = sizeof(folders) / sizeof(folders[0]); i > 0; i--) {
		snprintf(path, sizeof(path), "%s%s/state.json", root, folders[i - 1]);
		unlink(path);
		snprintf(path, sizeof(path), "%s%s/state.now", root, folders[i - 1]);
		unlink(path);
		snprintf(path, sizeof(path), "%s%s", root, folders[i - 1]);
		rmdir(path);
	}
	snprintf(path, sizeof(path), "%s/lock", root);
	unlink(path);
	return rmdir(root);
}

static void test_leftover_groups_with_views_are_named(void **state)
{
	char configured[200], where[200], lock[200];
	struct sosie_config_group g = {.state = configured};
	struct sosie_config c = {.state = root, .groups = &g, .group_count = 1};
	unsigned gone = 0, pending = 0, begun = 0;

	(void)state;
	snprintf(lock, sizeof(lock), "%s/lock", root); /* a file among the folders */
	FILE *f = fopen(lock, "we");
	assert_non_null(f);
	fclose(f);
	snprintf(configured, sizeof(configured), "%s/h_22/acme/erp", root);
	snprintf(where, sizeof(where), "then %s/h_22/acme/gone", root);
	put("erp", "{\"view\":\"r00000000000000a\",\"pending\":null,\"volumes\":[]}");
	put("gone", "{\"view\":\"r00000000000000b\",\"pending\":null,\"volumes\":[{\"path\":\"/srv/"
	            "\\u001bgone.raw\"}]}");
	put("pending", "{\"view\":\"\",\"pending\":{\"view\":\"b00000000000000c\"},\"volumes\":[]}");
	put("dropped", "{\"view\":\"\",\"pending\":null,\"volumes\":[]}");
	put("broken", "{\"view\":");
	/* The newer of the two counts: one view was made since, one was removed. */
	put("begun", "{\"serial\":3,\"view\":\"\"}");
	put_as("state.now", "begun",
	       "{\"serial\":4,\"view\":\"\",\"pending\":{\"view\":\"r00000000000000d\"}}");
	put("done", "{\"serial\":6,\"view\":\"r00000000000000e\"}");
	put_as("state.now", "done", "{\"serial\":7,\"view\":\"\"}");
	assert_int_equal(leftover_tell(&c), 3);
	assert_int_equal(lines, 3);
	for (unsigned i = 0; i < 3; i++) {
		if (strstr(logged[i], "acme/gone: ") == logged[i]) {
			gone++;
			assert_non_null(strstr(logged[i], "remove acme.gone.01234567.* in"));
			assert_non_null(strstr(logged[i], "beside /srv/\\x1bgone.raw"));
			assert_non_null(strstr(logged[i], where));
		}
		pending += strstr(logged[i], "acme/pending: ") == logged[i];
		begun += strstr(logged[i], "acme/begun: ") == logged[i];
	}
	assert_int_equal(begun, 1);
	assert_int_equal(gone, 1);
	assert_int_equal(pending, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_leftover_groups_with_views_are_named)};

	return cmocka_run_group_tests(tests, make, take_away);
}
