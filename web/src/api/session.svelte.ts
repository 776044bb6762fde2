// Who is logged in: a token is exchanged for a cookie that no script can read.

class Session {
  client = $state<string | null>(null);
  expired = $state(false);

  expire(): void {
    this.expired = true;
  }

  enter(client: string): void {
    this.client = client;
    this.expired = false;
  }
}

export const session = new Session();
