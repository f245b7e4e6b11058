/*
 * A model server that costs next to nothing: one thread, epoll, keep-alive. The first segment of the request's path
 * says how it answers:
 *
 *   /json    one small JSON document
 *   /chunks  a stream of 50 chunks, all at once
 *   /paced   the same 50 chunks, one every 10 ms
 *   /slow    a stream of 12 chunks, one every second
 *
 * Chunks of paced and slow streams carry the time at which they were sent (`sent_ns`, of the monotonic clock, which
 * all processes of a machine share), so that whoever reads them can tell how long they were under way.
 *
 * A request whose body has no length or does not end like a JSON object has been damaged on the way: it gets 400.
 *
 *   upstream PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { CHUNKS = 50, SLOW_CHUNKS = 12, REQUEST_BYTES_MAX = 1 << 20, STREAMS_MAX = 16384, EVENTS_MAX = 512 };

struct connection {
  int socket;
  char *request;
  size_t bytes, capacity;
  /* Of the stream that it is being sent: chunks to come, and when the next is due. 0: none. */
  long left;
  long long due_ns, every_ns;
};

static struct connection *streams[STREAMS_MAX];
static int streams_open;
static char json_answer[4096], whole_stream[64 * 1024];
static size_t json_answer_bytes, whole_stream_bytes;

static const char stream_head[] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
static const char bad_request[] = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
static const char stream_end[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

static long long now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* One event as one chunk of the transfer encoding. */
static size_t write_event(char *to, const char *event) {
  return sprintf(to, "%zx\r\n%s\r\n", strlen(event), event);
}

#define CHUNK_START "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1750000000,\"model\":\"bench-model\","

static size_t write_token(char *to, long long sent_ns) {
  char event[512];
  sprintf(event,
          CHUNK_START "\"sent_ns\":%lld,\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
          sent_ns);
  return write_event(to, event);
}

static size_t write_last_events(char *to) {
  size_t bytes = write_event(to, CHUNK_START "\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n");
  bytes += write_event(to + bytes, CHUNK_START "\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":50,\"total_tokens\":62}}\n\n");
  memcpy(to + bytes, stream_end, sizeof stream_end - 1);
  return bytes + sizeof stream_end - 1;
}

static void prepare_answers(void) {
  const char *body =
      "{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1750000000,\"model\":\"bench-model\","
      "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hello! How can I help you today?\",\"refusal\":null},"
      "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":9,\"total_tokens\":21}}";
  json_answer_bytes = sprintf(json_answer, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
                              strlen(body), body);
  memcpy(whole_stream, stream_head, sizeof stream_head - 1);
  whole_stream_bytes = sizeof stream_head - 1;
  for (int chunk = 0; chunk < CHUNKS - 1; chunk++) whole_stream_bytes += write_token(whole_stream + whole_stream_bytes, 1);
  whole_stream_bytes += write_last_events(whole_stream + whole_stream_bytes);
}

static void close_connection(struct connection *connection) {
  for (int index = 0; index < streams_open; index++) {
    if (streams[index] == connection) streams[index--] = streams[--streams_open];
  }
  close(connection->socket);
  free(connection->request);
  free(connection);
}

static void send_bytes(struct connection *connection, const char *bytes, size_t length) {
  /* Answers are far smaller than a socket's buffer; what does not fit is a reader that has stopped. */
  if (send(connection->socket, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)length) shutdown(connection->socket, SHUT_RDWR);
}

static void send_next_chunk(struct connection *connection) {
  char bytes[2048];
  connection->left--;
  connection->due_ns += connection->every_ns;
  size_t length = connection->left > 0 ? write_token(bytes, now_ns()) : write_last_events(bytes);
  send_bytes(connection, bytes, length);
}

static void start_stream(struct connection *connection, long chunks, long long every_ns) {
  char bytes[1024];
  memcpy(bytes, stream_head, sizeof stream_head - 1);
  size_t length = sizeof stream_head - 1;
  length += write_token(bytes + length, now_ns());
  send_bytes(connection, bytes, length);
  connection->left = chunks - 1;
  connection->every_ns = every_ns;
  connection->due_ns = now_ns() + every_ns;
  if (streams_open < STREAMS_MAX) streams[streams_open++] = connection;
}

static void send_due_chunks(void) {
  long long now = now_ns();
  for (int index = 0; index < streams_open; index++) {
    if (streams[index]->due_ns > now) continue;
    send_next_chunk(streams[index]);
    if (streams[index]->left == 0) streams[index--] = streams[--streams_open];
  }
}

static void answer(struct connection *connection, size_t request_bytes) {
  const char *path = strchr(connection->request, ' ') + 1;
  if (connection->request[request_bytes - 1] != '}') send_bytes(connection, bad_request, sizeof bad_request - 1);
  else if (strncmp(path, "/chunks", 7) == 0) send_bytes(connection, whole_stream, whole_stream_bytes);
  else if (strncmp(path, "/paced", 6) == 0) start_stream(connection, CHUNKS, 10000000LL);
  else if (strncmp(path, "/slow", 5) == 0) start_stream(connection, SLOW_CHUNKS, 1000000000LL);
  else send_bytes(connection, json_answer, json_answer_bytes);
}

/* The length of the request at the front of the buffer, 0 while it is not all there. */
static size_t request_length(struct connection *connection) {
  char *head_end = memmem(connection->request, connection->bytes, "\r\n\r\n", 4);
  if (head_end == NULL) return 0;
  *head_end = 0;
  char *field = strcasestr(connection->request, "\ncontent-length:");
  size_t body = field == NULL ? 0 : strtoul(field + 16, NULL, 10);
  *head_end = '\r';
  size_t length = head_end + 4 - connection->request + body;
  return connection->bytes >= length ? length : 0;
}

static void read_requests(struct connection *connection) {
  if (connection->capacity - connection->bytes < 4096) {
    connection->capacity = connection->capacity == 0 ? 8192 : connection->capacity * 4;
    connection->request = realloc(connection->request, connection->capacity + 1);
  }
  ssize_t got = recv(connection->socket, connection->request + connection->bytes, connection->capacity - connection->bytes, 0);
  if (got <= 0 || connection->bytes + got > REQUEST_BYTES_MAX) {
    close_connection(connection);
    return;
  }
  connection->bytes += got;
  connection->request[connection->bytes] = 0;
  for (size_t length; (length = request_length(connection)) > 0;) {
    answer(connection, length);
    connection->bytes -= length;
    memmove(connection->request, connection->request + length, connection->bytes + 1);
  }
}

static int listen_on(int port) {
  int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 4096) != 0) {
    perror("upstream: cannot listen");
    exit(1);
  }
  return listener;
}

int main(int count, char **arguments) {
  if (count != 2) {
    fprintf(stderr, "usage: upstream PORT\n");
    return 2;
  }
  prepare_answers();
  int listener = listen_on(atoi(arguments[1])), epoll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct itimerspec millisecond = {{0, 1000000}, {0, 1000000}};
  timerfd_settime(timer, 0, &millisecond, NULL);
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.ptr = &listener});
  epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &(struct epoll_event){.events = EPOLLIN, .data.ptr = &timer});

  for (struct epoll_event events[EVENTS_MAX];;) {
    int ready = epoll_wait(epoll, events, EVENTS_MAX, -1);
    for (int index = 0; index < ready; index++) {
      void *source = events[index].data.ptr;
      if (source == &timer) {
        unsigned long long expirations;
        if (read(timer, &expirations, sizeof expirations) > 0) send_due_chunks();
      } else if (source == &listener) {
        int yes = 1;
        struct connection *connection = calloc(1, sizeof *connection);
        connection->socket = accept(listener, NULL, NULL);
        setsockopt(connection->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        epoll_ctl(epoll, EPOLL_CTL_ADD, connection->socket, &(struct epoll_event){.events = EPOLLIN, .data.ptr = connection});
      } else {
        read_requests(source);
      }
    }
  }
}
