// Bytes, connects and datagrams of each backend row, counted in place: a packet costs an addition.

export class Rows {
  rx = new Float64Array(16)
  tx = new Float64Array(16)
  connects = new Float64Array(16)
  requests = new Float64Array(16)
  responses = new Float64Array(16)

  /** Makes sure that `row` can be counted under. */
  reserve(row: number): void {
    if (row < this.rx.length) return
    const length = Math.max(row + 1, 2 * this.rx.length)
    this.rx = grown(this.rx, length)
    this.tx = grown(this.tx, length)
    this.connects = grown(this.connects, length)
    this.requests = grown(this.requests, length)
    this.responses = grown(this.responses, length)
  }
}

function grown(column: Float64Array<ArrayBuffer>, length: number): Float64Array<ArrayBuffer> {
  const longer = new Float64Array(length)
  longer.set(column)
  return longer
}
